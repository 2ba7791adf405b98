import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, loadEnv, type Plugin } from "vite";

const DIST = "dist";
/** Letters go out with what they may be passed on under. */
const LETTERS = "node_modules/@fontsource-variable/source-sans-3/LICENSE";
/** Smaller ones do not get smaller. */
const WORTH_IT = 1024;

/** Puts a compressed copy beside each file. The directory itself stays: cargo looks at it. */
function packed(): Plugin {
  return {
    name: "packed",
    apply: "build",
    buildStart() {
      for (const name of readdirSync(DIST)) if (name !== ".gitignore") rmSync(join(DIST, name), { recursive: true });
    },
    closeBundle() {
      copyFileSync(LETTERS, join(DIST, "assets", "source-sans-3.LICENSE.txt"));
      for (const name of readdirSync(DIST, { recursive: true, encoding: "utf8" })) {
        if (!/\.(js|css|svg|wasm|json)$/.test(name)) continue;
        const text = readFileSync(join(DIST, name));
        if (text.length >= WORTH_IT) writeFileSync(join(DIST, `${name}.gz`), gzipSync(text, { level: 9 }));
      }
    },
  };
}

export default defineConfig(({ mode }) => {
  // While the page is worked on, a gateway that runs on this machine answers for the API.
  const gateway = loadEnv(mode, ".", "SOJOURN_")["SOJOURN_URL"] ?? "http://localhost:8080";
  return {
    plugins: [svelte(), packed()],
    build: {
      target: "es2022",
      emptyOutDir: false,
      // The gateway's policy allows no inline code, and no data: addresses.
      modulePreload: { polyfill: false },
      assetsInlineLimit: 0,
    },
    server: {
      proxy: {
        "/api": { target: gateway, ws: true, changeOrigin: true, headers: { origin: gateway } },
      },
    },
  };
});
