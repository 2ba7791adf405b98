// What lies over every page once somebody is signed in: one file each, loaded after the page itself.

import type { Component } from "svelte";

export const overlays: readonly (() => Promise<{ default: Component }>)[] = [() => import("./parts/Palette.svelte")];
