// The list of sessions, kept up to date without moving under the pointer: rows change in place, new
// ones wait until they are asked for.

import { get, peek, Refusal } from "./api";
import { isOver } from "./session";
import type { Page, Session } from "./types";

/** Sessions of one page. */
const PAGE = 100;
/** Live ones further down than the first page that are looked after one by one. */
const FURTHER = 12;

export class Sessions {
  rows = $state.raw<Session[]>([]);
  waiting = $state.raw<Session[]>([]);
  next = $state<string | null>(null);
  error = $state<unknown>(null);
  loaded = $state(false);
  private query = "";
  private abort: AbortController | null = null;
  private loading = false;

  /** What was asked for last. */
  get asked(): URLSearchParams {
    return new URLSearchParams(this.query);
  }

  private address(cursor?: string): string {
    const query = new URLSearchParams(this.query);
    query.set("limit", String(PAGE));
    if (cursor) query.set("cursor", cursor);
    return `/api/sessions?${query}`;
  }

  /** Asks anew, with these filters. */
  async ask(query: URLSearchParams): Promise<void> {
    this.query = query.toString();
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    try {
      const page = await get<Page<Session>>(this.address(), abort.signal);
      this.rows = page.items;
      this.next = page.next_cursor ?? null;
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
      const page = await peek<Page<Session>>(this.address());
      const fresh = new Map(page.items.map((row) => [row.id, row]));
      const further = this.rows.filter((row) => !isOver(row) && !fresh.has(row.id)).slice(0, FURTHER);
      for (const row of await Promise.all(further.map((row) => one(row)))) fresh.set(row.id, row);
      // Another question was asked in the meantime.
      if (query !== this.query) return;
      this.rows = this.rows.map((row) => fresh.get(row.id) ?? row);
      const known = new Set(this.rows.map((row) => row.id));
      this.waiting = page.items.filter((row) => !known.has(row.id));
      this.error = null;
      if (this.rows.length === 0) this.show();
    } catch (error) {
      this.error = error;
      throw error;
    }
  }

  /** Shows those that wait. */
  show(): void {
    if (this.waiting.length === 0) return;
    this.rows = [...this.waiting, ...this.rows];
    this.waiting = [];
  }

  /** The page after this one. */
  async more(): Promise<void> {
    if (!this.next || this.loading) return;
    this.loading = true;
    const query = this.query;
    try {
      const page = await get<Page<Session>>(this.address(this.next));
      if (query !== this.query) return;
      const known = new Set(this.rows.map((row) => row.id));
      this.rows = [...this.rows, ...page.items.filter((row) => !known.has(row.id))];
      this.next = page.next_cursor ?? null;
    } catch (error) {
      this.error = error;
    } finally {
      this.loading = false;
    }
  }
}

/** As it is now, or as it was where that cannot be known. */
async function one(row: Session): Promise<Session> {
  try {
    return await peek<Session>(`/api/sessions/${row.id}`);
  } catch (error) {
    if (error instanceof Refusal && error.status !== 404) throw error;
    return row;
  }
}
