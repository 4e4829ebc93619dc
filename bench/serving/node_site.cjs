// The three views of site.py under Node's cluster module: plain http, jsonwebtoken, and a client of Redis.
//
// The token is the kit's own, and is checked as there: key, algorithm, issuer, audience, times, and one MGET for
// what was revoked. The feed is the body that Django answered, kept in Redis under one key, as in every tutorial.

const cluster = require("node:cluster");
const { createSecretKey } = require("node:crypto");
const http = require("node:http");

const given = process.env;

if (cluster.isPrimary) {
  for (let count = Number(given.WORKERS); count > 0; count--) cluster.fork();
} else {
  serve();
}

async function serve() {
  const jwt = require("jsonwebtoken");
  const redis = await require("redis").createClient({ url: given.SERVING_REDIS_URL }).connect();
  const secret = given.JWT_SECRET === "string" ? given.SIGNING_KEY : createSecretKey(Buffer.from(given.SIGNING_KEY));
  const rules = { algorithms: ["HS256"], issuer: "scaling_kit", audience: "scaling_kit", clockTolerance: 10 };

  async function isRevoked(claims) {
    const subjects = ["everyone", `user:${claims.sub}`, `session:${claims.sid}`];
    const [all, user, session] = await redis.mGet(subjects.map((subject) => given.EPOCH_KEY + subject));
    return Number(all) > claims.epoch_all || Number(user) > claims.epoch || Number(session) > 0;
  }

  const views = {
    "/json": async () => JSON.stringify({ message: "hello", numbers: [1, 2, 3] }),
    "/jwt": async (request) => {
      const claims = jwt.verify(request.headers.authorization.slice("Bearer ".length), secret, rules);
      if (await isRevoked(claims)) throw new Error("revoked");
      return JSON.stringify({ id: claims.sub, username: claims.username });
    },
    "/feed": async () => {
      const body = await redis.get(given.FEED_KEY);
      if (body === null) throw new Error("there is no feed");
      return body;
    },
  };

  const answer = async (request, response) => {
    try {
      const body = await views[request.url](request);
      response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
      response.end(body);
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  };
  http.createServer(answer).listen(Number(given.PORT), "127.0.0.1");
}
