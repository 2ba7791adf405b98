import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// While the page is worked on, a gateway that runs on this machine answers for the API.
const gateway = process.env["SOJOURN_URL"] ?? "http://localhost:8080";

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: "es2022",
    // The policy of the gateway allows no inline code.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  server: {
    proxy: {
      "/api": { target: gateway, ws: true, changeOrigin: true, headers: { origin: gateway } },
    },
  },
});
