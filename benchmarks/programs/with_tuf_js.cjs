// Refreshes and gets a target with the npm package tuf-js; the command line is that of with_kedge.py, after MODULES.

const fs = require("fs");
const path = require("path");

const [modules, url, folder, target, kind, runs] = process.argv.slice(2);
const { Updater } = require(path.join(modules, "tuf-js"));

async function get(cache) {
  const metadataDir = path.join(cache, "metadata");
  const targetDir = path.join(cache, "targets");
  for (const made of [metadataDir, targetDir]) fs.mkdirSync(made, { recursive: true });
  const root = path.join(metadataDir, "root.json");
  if (!fs.existsSync(root)) fs.copyFileSync(path.join(folder, "root.json"), root);
  const where = { metadataDir, targetDir, metadataBaseUrl: `${url}/metadata`, targetBaseUrl: `${url}/targets` };
  const updater = new Updater(where);
  await updater.refresh();
  const info = await updater.getTargetInfo(target);
  const file = (await updater.findCachedTarget(info)) || (await updater.downloadTarget(info));
  return fs.readFileSync(file);
}

async function main() {
  if (kind === "once") {
    await get(path.join(folder, "cache"));
    return;
  }
  const times = [];
  for (let run = 0; run <= Number(runs); run++) {
    const begun = performance.now();
    await get(path.join(folder, kind === "cold" ? `cache-${run}` : "cache"));
    times.push(performance.now() - begun);
  }
  console.log(JSON.stringify(times.slice(1)));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
