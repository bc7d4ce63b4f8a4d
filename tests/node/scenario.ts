// A program with the generated types: it compiles without a cast, and each call does what it says.
// Arguments: the server's address, an admin's address and password.
import createClient from "openapi-fetch";
import type { components, paths } from "./canonical.js";

declare const process: { argv: string[] };
type User = components["schemas"]["CanonicalUser"];
type Domain = components["schemas"]["CanonicalDomain"];
type Alias = components["schemas"]["CanonicalAlias"];

const [, , baseUrl = "", username = "", password = ""] = process.argv;
const mail = "alice@example.com";
const ofMail = { path: { mail } };
const ofDomain = { path: { domain: "example.com" } };
const canonical = { view: "canonical" } as const;
let calls = 0;

function check(fact: boolean, what: unknown): asserts fact {
  if (!fact) throw new Error(`call ${calls}: ${JSON.stringify(what)}`);
}

/** The answer to a call that has to succeed. */
async function done<Answer extends { _success: boolean }>(
  call: Promise<{ data?: Answer; error?: unknown; response: Response }>,
): Promise<Answer> {
  const { data, error, response } = await call;
  calls += 1;
  check(response.status === 200 && data !== undefined && data._success, error);
  return data;
}

/** The code of a call that has to be refused with a status. */
async function refused(
  status: number,
  call: Promise<{ error?: { _msg: string; _success: boolean }; response: Response }>,
): Promise<string> {
  const { error, response } = await call;
  calls += 1;
  check(response.status === status && error !== undefined && !error._success, error);
  return error._msg;
}

const visitor = createClient<paths>({ baseUrl });
const wrong = visitor.POST("/api/login", { body: { username, password: "wrong" } });
check((await refused(401, wrong)) === "INVALID_CREDENTIALS", "a wrong password");
const login = await visitor.POST("/api/login", { body: { username, password } });
calls += 1;
const cookie = login.response.headers.get("set-cookie")?.split(";")[0];
check(cookie !== undefined, login.error);
const browser = createClient<paths>({ baseUrl, headers: { cookie } });
const made = await done(browser.POST("/api/tokens", { body: { label: "typescript", days: 1 } }));
const authorization = `Bearer ${made._data.token}`;
const api = createClient<paths>({ baseUrl, headers: { authorization } });

const me = await done(api.GET("/api/whoami"));
check(me._data.username === username, me);
await done(
  api.POST("/api/domain/{domain}", { params: ofDomain, body: { name: "Example", quota: 5000 } }),
);
const read = await done(
  api.GET("/api/domain/{domain}", { params: { ...ofDomain, query: canonical } }),
);
const domain: Domain = read._data;
check(domain.quota === 5000 && domain.existingUsers === 0, domain);
const domains = await done(api.GET("/api/domains", { params: { query: canonical } }));
check(domains._data.map((one: Domain) => one.domain).join() === "example.com", domains);

const account = { name: "Alice", password, quota: 100 };
const key = { header: { "Idempotency-Key": "typescript-1" } };
await done(api.POST("/api/user/{mail}", { params: { ...ofMail, ...key }, body: account }));
const again = await api.POST("/api/user/{mail}", { params: { ...ofMail, ...key }, body: account });
calls += 1;
check(again.response.headers.get("idempotent-replayed") === "true", again.error);
const twice = api.POST("/api/user/{mail}", { params: ofMail, body: account });
check((await refused(409, twice)) === "ALREADY_EXISTS", "made twice");
const unknown = api.PUT("/api/user/{mail}", {
  params: { ...ofMail, query: { strict: "yes" } },
  body: { quota: -1 },
});
check((await refused(400, unknown)) === "INVALID_NUMBER", "a negative quota");

const profile = await api.GET("/api/user/{mail}", { params: { ...ofMail, query: canonical } });
calls += 1;
const user: User | undefined = profile.data?._data;
const tag = profile.response.headers.get("etag");
check(user?.name === "Alice" && user.quota === 100 && tag !== null, profile.error);
const versioned = { params: { ...ofMail, header: { "If-Match": tag } } };
const changed = await done(api.PUT("/api/user/{mail}", { ...versioned, body: { quota: 200 } }));
check(changed._changed.join() === "quota", changed);
const late = api.PUT("/api/user/{mail}", { ...versioned, body: { quota: 300 } });
check((await refused(412, late)) === "PRECONDITION_FAILED", "an old tag");

const sales = { path: { mail: "sales@example.com" } };
await done(api.POST("/api/alias/{mail}", { params: sales, body: { members: mail } }));
const list = await done(api.GET("/api/alias/{mail}", { params: { ...sales, query: canonical } }));
const alias: Alias = list._data;
check(alias.members.join() === mail, alias);
const page = await done(
  api.GET("/api/users/{domain}", {
    params: { ...ofDomain, query: { ...canonical, limit: 10, total: "yes" } },
  }),
);
check(page._total === 1 && page._next === null, page);
check(page._data.map((one: User) => one.quota).join() === "200", page);
const found = await done(api.GET("/api/search", { params: { query: { q: "ali" } } }));
check(found._data.some((one) => one.kind === "user"), found);
const usage = await done(api.GET("/api/usage"));
check(usage._data.map((row) => row.domain).join() === "example.com", usage);
await done(api.DELETE("/api/user/{mail}", { params: ofMail }));
const gone = api.GET("/api/user/{mail}", { params: { ...ofMail, query: canonical } });
check((await refused(404, gone)) === "NO_SUCH_ACCOUNT", "deleted");
await done(api.DELETE("/api/domain/{domain}", { params: ofDomain }));
console.log(calls);
