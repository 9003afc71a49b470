// A certified OpenID provider on loopback. Prints its issuer, one line; its own pages sign anybody
// in. `POST /__test` {"keys": [...]} goes on with other keys, {"down": true} answers nobody.
//
//   node oidc.cjs PORT CLIENTS   CLIENTS: the clients as JSON
const crypto = require("crypto");
const http = require("http");
const { pathToFileURL } = require("url");

const [port, clients] = [Number(process.argv[2]), JSON.parse(process.argv[3])];
const issuer = `http://127.0.0.1:${port}`;
const GROUPS = { dora: ["dba"], vera: ["security"], ana: ["analysts"], robot: ["robots"] };
const made = new Map();

// A key of each kind that an issuer may have; the first one signs.
function key(name) {
  if (!made.has(name)) {
    const { privateKey } = name.startsWith("ec")
      ? crypto.generateKeyPairSync("ec", { namedCurve: "P-256" })
      : crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
    const alg = name.startsWith("ec") ? "ES256" : "RS256";
    made.set(name, { ...privateKey.export({ format: "jwk" }), kid: name, alg, use: "sig" });
  }
  return made.get(name);
}

function config(names) {
  const alg = key(names[0]).alg;
  const keys = names.map(key);
  // Clients register RS256 unless they say something else.
  if (alg !== "RS256") keys.push(key("rsa-spare"));
  return {
    clients: clients.map((client) => ({ id_token_signed_response_alg: alg, ...client })),
    jwks: { keys },
    cookies: { keys: ["a key of the tests"] },
    pkce: { required: () => true },
    scopes: ["openid", "groups", "call"],
    claims: { openid: ["sub"], groups: ["groups"] },
    conformIdTokenClaims: false,
    ttl: { AccessToken: 600, ClientCredentials: 600, IdToken: 600, Interaction: 600, Session: 600, Grant: 600 },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, groups: GROUPS[id] ?? [] }),
    }),
    extraTokenClaims: (_, token) => ({ groups: GROUPS[token.accountId ?? token.clientId] ?? [] }),
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => ({
          scope: "call",
          audience: resource,
          accessTokenTTL: 600,
          accessTokenFormat: resource.endsWith("/opaque") ? "opaque" : "jwt",
          jwt: { sign: { alg } },
        }),
      },
    },
  };
}

async function main() {
  const place = require.resolve("oidc-provider");
  const { Provider } = await import(pathToFileURL(place));
  // All instances share the adapter's memory: another one with other keys is the same provider.
  const callback = (names) => new Provider(issuer, config(names)).callback();
  let current = callback(["rsa-1"]);
  let down = false;
  const server = http.createServer((request, response) => {
    if (request.url !== "/__test") return down ? request.socket.destroy() : current(request, response);
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
      const told = JSON.parse(body);
      if (told.keys) current = callback(told.keys);
      if ("down" in told) down = told.down;
      response.end("{}");
    });
  });
  server.listen(port, "127.0.0.1", () => console.log(issuer));
}

main();
