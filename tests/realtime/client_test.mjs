// Run by test_javascript.py: node --experimental-websocket client_test.mjs <path of realtime.js> <url>
// Talks to a real server; prints one line of JSON about what it heard.
const [modulePath, url] = process.argv.slice(2);
const { Realtime } = await import(modulePath);

const heard = { events: [], gaps: 0, joined: [], tokens: [], statuses: [], errors: [] };
const realtime = new Realtime({
  url,
  getToken: async ({ refresh }) => {
    heard.tokens.push(refresh);
    return "x";
  },
});
realtime.on("status", (status) => heard.statuses.push(status));
realtime.join("private", { onError: (code) => heard.errors.push(code) });
realtime.join("wall", {
  onJoined: ({ recovered }) => {
    heard.joined.push(recovered);
    console.log("joined");
  },
  onGap: () => heard.gaps++,
  onEvent: (event, data) => {
    heard.events.push(data);
    if (data < 59) return;
    realtime.close();
    console.log(JSON.stringify(heard));
  },
});
setTimeout(() => {
  console.log(JSON.stringify(heard));
  process.exit(1);
}, 20_000).unref();
