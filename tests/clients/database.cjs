// node-postgres and postgres.js through the gateway: prints what each got, one JSON object.
const pg = require("pg");
const postgres = require("postgres");

const at = { host: "127.0.0.1", port: Number(process.env.PORT), database: "orders" };
const password = process.env.TOKEN;

async function nodePostgres() {
  const client = new pg.Client({ ...at, user: "x", password });
  await client.connect();
  const told = {};
  const text = "select id, name from customers where id = $1";
  told.row = (await client.query(text, [5])).rows;
  for (let turn = 0; turn < 3; turn++) {
    told.prepared = (await client.query({ name: "one", text, values: [6] })).rows;
  }
  told.refused = await client.query("drop table customers").catch((error) => error.code);
  told.after = (await client.query("select count(*)::int as n from customers")).rows;
  await client.end();
  return told;
}

async function postgresJs() {
  const sql = postgres({ ...at, username: "x", password, max: 2, onnotice: () => {} });
  const told = {};
  told.rows = await sql`select id, name from customers where id in ${sql([7, 8])} order by id`;
  told.refused = await sql`delete from customers where id = ${1}`.catch((error) => error.code);
  told.begun = await sql.begin(async (tx) => {
    await tx`insert into notes values (${700}, ${"js"})`;
    return tx`select body from notes where id = 700`;
  });
  await sql`delete from notes where id = 700`;
  await sql.end();
  return told;
}

(async () => {
  console.log(JSON.stringify({ pg: await nodePostgres(), postgres: await postgresJs() }));
})();
