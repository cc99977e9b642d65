// Verifies bundles as npm does, with the @sigstore/verify that npm brings:
//   node verify_with_sigstore_js.cjs MODULES < {"root": {...}, "keys": {KEYID: {"spki": BASE64, "start", "end"}}, "bundles": [...]}
// Prints a list with null for each bundle that verifies, and else with its error.

const fs = require("fs");
const path = require("path");

const inside = path.join(process.argv[2], "npm", "node_modules", "@sigstore");
const { bundleFromJSON } = require(path.join(inside, "bundle"));
const { TrustedRoot } = require(path.join(inside, "protobuf-specs"));
const { Verifier, toSignedEntity, toTrustMaterial } = require(path.join(inside, "verify"));
const { createPublicKey } = require("crypto");

const given = JSON.parse(fs.readFileSync(0, "utf8"));
const keys = (hint) => {
  const key = given.keys[hint];
  if (!key) throw new Error(`unknown key ${hint}`);
  return {
    publicKey: createPublicKey({ key: Buffer.from(key.spki, "base64"), format: "der", type: "spki" }),
    validFor: (date) => (!key.start || new Date(key.start) <= date) && (!key.end || date < new Date(key.end)),
  };
};
const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(given.root), keys), { tlogThreshold: 1, ctlogThreshold: 1 });

console.log(
  JSON.stringify(
    given.bundles.map((bundle) => {
      try {
        verifier.verify(toSignedEntity(bundleFromJSON(bundle)));
        return null;
      } catch (error) {
        return `${error.code || error.name}: ${error.message}`;
      }
    }),
  ),
);
