// A node to look at: real origins, a real `weir`, a browser. For the browser tests and the bench.

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../../", import.meta.url));
export const WEIR = process.env.WEIR ?? join(root, "target/debug/weir");
export const ARTEFACTS = process.env.WEIR_ARTEFACTS ?? join(root, "target/console");
const DEADLINE_MS = 20_000;

/** Waits until it is so. */
export async function until(what, ready, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await ready();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A port that nobody listens on. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** An origin that answers at once and can be ended. */
export async function origin(host = "127.0.0.1") {
  const server = http.createServer((_, response) => response.end("ok"));
  await new Promise((resolve) => server.listen(0, host, resolve));
  return {
    port: server.address().port,
    end: () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); }),
  };
}

/** A running node. `tables` is what its file has besides [node] and [api]. */
export class Node {
  static async start(tables, { tokens = [] } = {}) {
    const node = new Node();
    node.dir = mkdtempSync(join(tmpdir(), "weir-console-"));
    node.port = await freePort();
    node.tokens = Object.fromEntries(tokens.map((role) => {
      const made = JSON.parse(spawnSync(WEIR, ["token", role, "--role", role, "--json"]).stdout);
      return [role, made];
    }));
    const access = Object.values(node.tokens).map((made) => `[api.token.${made.name}]\nrole = "${made.role}"\ntoken_sha256 = "${made.token_sha256}"\n`);
    node.file = join(node.dir, "weir.toml");
    node.text = `[node]\nname = "lb-a"\nworkers = 1\nstate_dir = "${node.dir}/state"\n\n[api]\nbind = "127.0.0.1:${node.port}"\n\n${access.join("\n")}\n${tables}`;
    writeFileSync(node.file, node.text);
    await node.run();
    return node;
  }

  get url() {
    return `http://127.0.0.1:${this.port}/`;
  }

  async run() {
    this.process = spawn(WEIR, ["run", "--config", this.file], { stdio: ["ignore", "ignore", process.env.WEIR_LOG ? "inherit" : "ignore"] });
    await until("the node answers", () => fetch(this.url).then((response) => response.ok, () => false));
  }

  async stop() {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const ended = new Promise((resolve) => this.process.once("exit", resolve));
      this.process.kill("SIGKILL");
      await ended;
    }
  }

  async end() {
    await this.stop();
    // Who has taken over from it, at an upgrade, is nobody's child.
    if (this.heir) process.kill(this.heir, "SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Asks as the one who may everything. */
  async call(method, path, body) {
    const headers = { "content-type": "application/json" };
    if (this.tokens.admin) headers.authorization = `Bearer ${this.tokens.admin.token}`;
    const response = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }
}

export function browser() {
  mkdirSync(ARTEFACTS, { recursive: true });
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}
