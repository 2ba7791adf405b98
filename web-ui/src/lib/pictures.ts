// The few pictures of the page, drawn with one pen: paths in a square of 16.

export const PICTURES = {
  sessions: "M2 3.5h12v9H2z M4.5 6.5l2 1.75-2 1.75 M8.5 10h3",
  recordings: "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11z M6.8 5.8v4.4L10.4 8z",
  runners: "M2.5 3h11v4h-11z M2.5 9h11v4h-11z M5 5h.01 M5 11h.01",
  audit: "M4 2.5h8v11H4z M6 5.5h4 M6 8h4 M6 10.5h2.5",
  people: "M6 7.5a2.25 2.25 0 1 0 0-4.5a2.25 2.25 0 0 0 0 4.5z M1.8 13c.3-2.6 2-4 4.2-4s3.9 1.4 4.2 4 M10.5 3.3a2.25 2.25 0 0 1 0 4 M11.7 9.3c1.5.5 2.4 1.8 2.6 3.7",
  me: "M8 7.5a2.5 2.5 0 1 0 0-5a2.5 2.5 0 0 0 0 5z M3 13.5c.4-2.8 2.4-4.3 5-4.3s4.6 1.5 5 4.3",
  health: "M1.5 8.5h3l1.8-5 3 9 2-5.5.8 1.5h2.4",
  profiles: "M3 4.5h10 M3 8h10 M3 11.5h10 M6 3v3 M10.5 6.5v3 M5 10v3",
  files: "M3.5 2.5h6l3 3v8h-9z M9.5 2.5v3h3",
  plus: "M8 3v10 M3 8h10",
  search: "M7 2.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 0 1 0-9z M10.3 10.3l3.5 3.5",
  close: "M4 4l8 8 M12 4l-8 8",
  back: "M9.5 3.5L5 8l4.5 4.5",
  down: "M3.5 6L8 10.5 12.5 6",
  more: "M4 8h.01 M8 8h.01 M12 8h.01",
  sun: "M8 5.2a2.8 2.8 0 1 1 0 5.6a2.8 2.8 0 0 1 0-5.6z M8 1.5v1.5 M8 13v1.5 M1.5 8H3 M13 8h1.5 M3.4 3.4l1 1 M11.6 11.6l1 1 M3.4 12.6l1-1 M11.6 4.4l1-1",
  moon: "M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5z",
  leave: "M6.5 2.5h-4v11h4 M6 8h7.5 M11 5.5L13.5 8 11 10.5",
  copy: "M5.5 5.5h8v8h-8z M3.5 10.5h-1v-8h8v1",
  eye: "M1.5 8S4 3.8 8 3.8 14.5 8 14.5 8 12 12.2 8 12.2 1.5 8 1.5 8z M8 6.2a1.8 1.8 0 1 1 0 3.6a1.8 1.8 0 0 1 0-3.6z",
  wall: "M2.5 3h4.75v4.25H2.5z M8.75 3h4.75v4.25H8.75z M2.5 8.75h4.75V13H2.5z M8.75 8.75h4.75V13H8.75z",
  list: "M2.5 4h11 M2.5 8h11 M2.5 12h11",
  fold: "M2.5 3h11v10h-11z M6 3v10",
} as const;

export type Picture = keyof typeof PICTURES;
