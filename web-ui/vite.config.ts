import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, loadEnv } from "vite";

export default defineConfig(({ mode }) => {
  // While the page is worked on, a gateway that runs on this machine answers for the API.
  const gateway = loadEnv(mode, ".", "SOJOURN_")["SOJOURN_URL"] ?? "http://localhost:8080";
  return {
    plugins: [svelte()],
    build: {
      target: "es2022",
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
