// Numbers, times and colours as the pages write them, in one place.

export const COLOURS = 8;

/** The colour of a version: by its number, so that it is the same on every page, chart and day. */
export const colour = (version) => `v${(Number(version) - 1) % COLOURS}`;

/** All versions that a history or a deployment names, in order. */
export function versions(points, variants) {
  const known = new Set(Object.keys(variants));
  for (const point of points) {
    for (const split of [point.wanted, point.observed]) {
      for (const [version, share] of Object.entries(split ?? {})) if (share > 0) known.add(version);
    }
  }
  return [...known].sort(byNumber);
}

export const byNumber = (one, other) => Number(one) - Number(other);

export const pct = (share) => `${Number(share.toFixed(2))} %`;

/** Write shares as "2: 25 %, 1: 75 %", those without any left out. */
export function shares(split) {
  if (!split) return "none";
  const some = Object.entries(split)
    .filter(([, share]) => share > 0)
    .sort(([one], [other]) => byNumber(one, other));
  if (some.length === 0) return "none";
  return some.map(([version, share]) => `${version}: ${pct(share)}`).join(", ");
}

export const isEqual = (one, other) => shares(one) === shares(other);

export const clock = (atS) => new Date(atS * 1000).toLocaleTimeString([], { hour12: false });

export function moment(atS) {
  const date = new Date(atS * 1000);
  const day = date.toLocaleDateString([], { month: "short", day: "numeric" });
  return `${day}, ${date.toLocaleTimeString([], { hour12: false })}`;
}

export const iso = (atS) => new Date(atS * 1000).toISOString();

/** Write a number with three digits that count. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString() : String(Number(value.toPrecision(3)));
}

/** A version's chip: its colour and its number. */
export function chip(h, version) {
  return h(
    "span",
    { class: "chip" },
    h("span", { class: `swatch ${colour(version)}`, "aria-hidden": "true" }),
    `version ${version}`,
  );
}

const TONES = {
  Healthy: "good",
  Progressing: "busy",
  Paused: "busy",
  RollingBack: "bad",
  RollbackFailed: "bad",
  Degraded: "bad",
};

/** A badge for a phase; the word says it, the colour repeats it. */
export const badge = (h, phase) => h("span", { class: `badge ${TONES[phase] ?? "busy"}` }, phase);
