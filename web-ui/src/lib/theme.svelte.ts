// Day or night: as the system has it, until somebody says otherwise.

type Light = "light" | "dark";

const KEPT = "sojourn-light";
const system = matchMedia("(prefers-color-scheme: dark)");

let chosen = $state<Light | null>(kept());
let dark = $state(system.matches);
system.addEventListener("change", (event) => (dark = event.matches));

function kept(): Light | null {
  try {
    const is = localStorage.getItem(KEPT);
    return is === "light" || is === "dark" ? is : null;
  } catch {
    // A browser that keeps nothing for pages.
    return null;
  }
}

function apply(): void {
  if (chosen) document.documentElement.dataset["light"] = chosen;
  else delete document.documentElement.dataset["light"];
}

apply();

export const theme = {
  get is(): Light {
    return chosen ?? (dark ? "dark" : "light");
  },

  /** The other one. What the system has already needs no choice. */
  turn(): void {
    const next: Light = theme.is === "dark" ? "light" : "dark";
    chosen = next === (dark ? "dark" : "light") ? null : next;
    apply();
    try {
      if (chosen) localStorage.setItem(KEPT, chosen);
      else localStorage.removeItem(KEPT);
    } catch {
      // Then it is so until the page is left.
    }
  },
};
