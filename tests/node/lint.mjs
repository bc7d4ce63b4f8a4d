// The rules of `redocly lint`, without its command line, which sends statistics.
// Prints one line for each problem of the documents that are named.
import { createConfig, lint } from "@redocly/openapi-core";

// Two paths that both match a request are no fault if they have no method in common:
// test_typescript_client.py looks at that.
const config = await createConfig({
  extends: ["recommended"],
  rules: { "no-ambiguous-paths": "off" },
});
for (const ref of process.argv.slice(2)) {
  for (const problem of await lint({ ref, config })) {
    const where = problem.location.map((place) => place.pointer).join(" ");
    console.log(`${ref}: ${problem.severity} ${problem.ruleId}: ${problem.message} ${where}`);
  }
}
