// The list of sessions, kept up to date without moving under the pointer: rows change in place, new
// ones wait until they are asked for.

import { get } from "./api";
import type { Page, Session } from "./types";

export class Sessions {
  rows = $state<Session[]>([]);
  waiting = $state<Session[]>([]);
  next = $state<string | null>(null);
  error = $state<unknown>(null);
  loaded = $state(false);
  private query = "";
  private abort: AbortController | null = null;

  /** Asks anew, with these filters. */
  async ask(query: URLSearchParams): Promise<void> {
    this.query = query.toString();
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    try {
      const page = await get<Page<Session>>(`/api/sessions?${this.query}`, abort.signal);
      this.rows = page.items;
      this.next = page.next_cursor;
      this.waiting = [];
      this.error = null;
      this.loaded = true;
    } catch (error) {
      if (!abort.signal.aborted) this.error = error;
    }
  }

  /** Looks what has changed. */
  async look(): Promise<void> {
    const query = this.query;
    try {
      const page = await get<Page<Session>>(`/api/sessions?${query}`);
      if (query !== this.query) return;
      const fresh = new Map(page.items.map((row) => [row.id, row]));
      this.rows = this.rows.map((row) => fresh.get(row.id) ?? row);
      const known = new Set(this.rows.map((row) => row.id));
      this.waiting = page.items.filter((row) => !known.has(row.id));
      this.error = null;
    } catch (error) {
      this.error = error;
    }
  }

  /** Shows those that wait. */
  show(): void {
    this.rows = [...this.waiting, ...this.rows];
    this.waiting = [];
  }

  /** The page after this one. */
  async more(): Promise<void> {
    if (!this.next) return;
    const query = new URLSearchParams(this.query);
    query.set("cursor", this.next);
    const page = await get<Page<Session>>(`/api/sessions?${query}`);
    const known = new Set(this.rows.map((row) => row.id));
    this.rows = [...this.rows, ...page.items.filter((row) => !known.has(row.id))];
    this.next = page.next_cursor;
  }
}
