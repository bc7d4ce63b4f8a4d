// The rules of `redocly lint`, without its command line, which sends statistics.
// Prints one line for each problem of the documents that are named.
import { createConfig, lint } from "@redocly/openapi-core";

const config = await createConfig({ extends: ["recommended"] });
for (const ref of process.argv.slice(2)) {
  for (const problem of await lint({ ref, config })) {
    const where = problem.location.map((place) => place.pointer).join(" ");
    console.log(`${ref}: ${problem.severity} ${problem.ruleId}: ${problem.message} ${where}`);
  }
}
