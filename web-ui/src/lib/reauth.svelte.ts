// Some changes want a person to prove again who they are. Whoever makes one wraps it in `fresh`: when
// the gateway asks for proof, the dialog does, and the change is made then.

import { post, Refusal, setCsrfToken } from "./api";

interface Waiting {
  go: () => void;
  no: (why: Error) => void;
}

let waiting = $state<Waiting | null>(null);

export const reauth = {
  /** Whether the dialog is to be shown. */
  get wanted(): boolean {
    return waiting !== null;
  },

  /** Proves it. */
  async prove(password: string, code: string): Promise<void> {
    const body = code ? { password, code } : { password };
    const answer = await post<{ csrf_token?: string }>("/api/auth/reauth", body);
    if (answer.csrf_token) setCsrfToken(answer.csrf_token);
    waiting?.go();
    waiting = null;
  },

  cancel(): void {
    waiting?.no(new Error("Nothing was changed."));
    waiting = null;
  },
};

/** Does something, after proof where the gateway wants it. */
export async function fresh<T>(doing: () => Promise<T>): Promise<T> {
  try {
    return await doing();
  } catch (error) {
    if (!(error instanceof Refusal) || error.code !== "REAUTH_REQUIRED") throw error;
    await new Promise<void>((go, no) => {
      waiting = { go, no };
    });
    return await doing();
  }
}
