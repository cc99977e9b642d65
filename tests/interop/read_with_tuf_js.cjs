// Reads a repository as the npm package tuf-js reads it, and prints what it found as one JSON object:
//   node read_with_tuf_js.cjs MODULES METADATA_URL TARGETS_URL FOLDER PATH...
// FOLDER/metadata holds the client's cache (at first: root.json), FOLDER/targets gets the targets.
// Exit 3: tuf-js refuses; its error stands on stderr.

const fs = require("fs");
const path = require("path");

const [modules, metadataBaseUrl, targetBaseUrl, folder, ...paths] = process.argv.slice(2);
const { Updater } = require(path.join(modules, "tuf-js"));

async function read() {
  const updater = new Updater({
    metadataDir: path.join(folder, "metadata"),
    metadataBaseUrl,
    targetDir: path.join(folder, "targets"),
    targetBaseUrl,
    config: { fetchRetries: 0 },
  });
  await updater.refresh();
  const targets = {};
  for (const name of paths) {
    const info = await updater.getTargetInfo(name);
    if (!info) throw new Error(`no target ${name}`);
    const file = await updater.downloadTarget(info);
    targets[name] = fs.readFileSync(file).toString("base64");
  }
  const root = JSON.parse(fs.readFileSync(path.join(folder, "metadata", "root.json"), "utf8"));
  return { root: root.signed.version, targets };
}

read().then(
  (found) => console.log(JSON.stringify(found)),
  (error) => {
    console.error(`${error.name}: ${error.message}`);
    process.exitCode = 3;
  },
);
