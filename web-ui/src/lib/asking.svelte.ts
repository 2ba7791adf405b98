// A question before something grave is done. Whoever asks waits for the answer.

export interface Question {
  title: string;
  /** What will happen, and what is safe. */
  text: string;
  /** The word on the button that does it. */
  deed: string;
  grave?: boolean;
  /** A line that may be written with it. */
  reason?: string;
  /** A word that has to be typed first, so that nobody does it by accident. */
  type?: string;
}

let open = $state.raw<{ question: Question; answer: (reason: string | null) => void } | null>(null);

export const asking = {
  get open(): Question | null {
    return open?.question ?? null;
  },
  answer(reason: string | null): void {
    open?.answer(reason);
    open = null;
  },
};

/** Asks. The reason, which may be empty, where the answer is yes; null where it is no. */
export function sure(question: Question): Promise<string | null> {
  asking.answer(null);
  return new Promise((answer) => {
    open = { question, answer };
  });
}
