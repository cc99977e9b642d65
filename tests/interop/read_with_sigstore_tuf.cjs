// Reads a repository as the npm package @sigstore/tuf reads it, and prints what it found as one JSON object:
//   node read_with_sigstore_tuf.cjs MODULES MIRROR_URL FOLDER PATH...
// The mirror has its metadata at the top and its targets below targets/. FOLDER/root.json is the initial root,
// FOLDER/cache the client's cache. Exit 3: @sigstore/tuf refuses; its error stands on stderr.

const fs = require("fs");
const path = require("path");

const [modules, mirrorURL, folder, ...paths] = process.argv.slice(2);
const { initTUF } = require(path.join(modules, "@sigstore", "tuf"));

async function read() {
  const cachePath = path.join(folder, "cache");
  const client = await initTUF({ mirrorURL, rootPath: path.join(folder, "root.json"), cachePath, retry: 0 });
  const targets = {};
  for (const name of paths) {
    targets[name] = Buffer.from(await client.getTarget(name), "utf8").toString("base64");
  }
  const [mirror] = fs.readdirSync(cachePath);
  const root = JSON.parse(fs.readFileSync(path.join(cachePath, mirror, "root.json"), "utf8"));
  return { root: root.signed.version, targets };
}

read().then(
  (found) => console.log(JSON.stringify(found)),
  (error) => {
    console.error(`${error.name}: ${error.message}${error.cause ? ` (${error.cause.message})` : ""}`);
    process.exitCode = 3;
  },
);
