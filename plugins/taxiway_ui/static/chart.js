// The two charts of an endpoint, drawn as SVG on one time axis: the split as stacked areas, a metric as lines.

import { h } from "./dom.js";
import { byNumber, clock, colour, moment, pct, short } from "./words.js";

const LEFT = 52;
const RIGHT = 12;
const LANE = 22;
const MARKS = { promote: "▲", "roll back": "▼", inconclusive: "■", complete: "◆", abort: "✕", superseded: "✕" };
const STEPS_S = [10, 30, 60, 120, 300, 600, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 2592000];

/** A time axis: seconds to pixels and back. */
export function axis(startS, endS, width) {
  const span = Math.max(endS - startS, 1);
  const room = Math.max(width - LEFT - RIGHT, 1);
  return {
    startS,
    endS,
    width,
    x: (atS) => LEFT + ((Math.min(Math.max(atS, startS), endS) - startS) / span) * room,
    at: (x) => startS + Math.min(Math.max((x - LEFT) / room, 0), 1) * span,
  };
}

/** The split at a moment: the last point that is not after it. */
export function splitAt(points, atS) {
  let found = null;
  for (const point of points) {
    if (point.at_s > atS) break;
    found = point;
  }
  return found;
}

/** The points of a span, with the split that it began with at its beginning and that it ended with at its end. */
function within(points, time) {
  const inside = thinned(
    points.filter((point) => point.at_s > time.startS && point.at_s < time.endS),
    time,
  );
  const before = splitAt(points, time.startS);
  const last = splitAt(points, time.endS);
  const first = before ? [{ ...before, at_s: time.startS }] : [];
  return [...first, ...inside, ...(last ? [{ ...last, at_s: time.endS }] : [])];
}

/** Of the points that fall on one pixel, the last: more cannot be seen. */
function thinned(points, time) {
  const isLast = (point, place) => {
    const next = points[place + 1];
    return !next || Math.round(time.x(next.at_s)) !== Math.round(time.x(point.at_s));
  };
  return points.length > 2 * time.width ? points.filter(isLast) : points;
}

/** Lines across the chart, each with its value, in words, to the left. */
function gridOf(time, y, values, said) {
  return values.map((value) => [
    h("line", { class: "grid", x1: LEFT, x2: time.width - RIGHT, y1: y(value), y2: y(value) }),
    h("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, said(value)),
  ]);
}

/** Stacked areas of what was read back, dotted edges of what was wanted, and a lane of verdicts above. */
export function splitChart({ points, marks, versions, time, cursorS, height, onMove, onKey, onMark }) {
  const y = (share) => LANE + ((100 - share) / 100) * (height - LANE - 22);
  const shown = within(points, time);
  const areas = versions.map((version, place) => {
    const below = versions.slice(0, place);
    return h("path", { class: `area ${colour(version)}`, d: area(shown, time, y, below, version) });
  });
  const edges = versions
    .slice(0, -1)
    .map((_, place) => h("path", { class: "edge", d: edge(shown, time, y, versions.slice(0, place + 1)) }));
  const grid = gridOf(time, y, [0, 25, 50, 75, 100], (share) => `${share} %`);
  return h(
    "svg",
    {
      class: "chart",
      viewBox: `0 0 ${time.width} ${height}`,
      width: time.width,
      height,
      tabindex: 0,
      role: "group",
      "aria-label": "Split over time. Arrow keys move from change to change; what held then is written above.",
      onpointermove: (event) => onMove(time.at(event.offsetX)),
      onpointerleave: () => onMove(null),
      onkeydown: onKey,
    },
    areas,
    grid,
    edges,
    marks.map((mark) => drawMark(mark, time, height, onMark)),
    times(time, height),
    cursor(cursorS, time, LANE, height),
  );
}

function area(shown, time, y, below, version) {
  const corners = shown.filter((point) => point.observed);
  if (!corners.some((point) => point.observed[version] > 0)) return "";
  const top = trace(corners, time, (point) => y(sum(point.observed, [...below, version])));
  const bottom = trace(corners, time, (point) => y(sum(point.observed, below)));
  return `M${top.join("L")}L${bottom.reverse().join("L")}Z`;
}

function edge(shown, time, y, versions) {
  const corners = shown.filter((point) => point.wanted);
  return corners.length ? `M${trace(corners, time, (point) => y(sum(point.wanted, versions))).join("L")}` : "";
}

/** The corners of a line that changes in steps. */
function trace(corners, time, height) {
  return corners.flatMap((point, place) => {
    const from = `${time.x(point.at_s).toFixed(1)},${height(point).toFixed(1)}`;
    const next = corners[place + 1];
    return next ? [from, `${time.x(next.at_s).toFixed(1)},${height(point).toFixed(1)}`] : [from];
  });
}

const sum = (shares, versions) => versions.reduce((total, version) => total + (shares[version] ?? 0), 0);

function drawMark(mark, time, height, onMark) {
  const x = time.x(mark.at_s);
  const open = () => onMark(mark.seq);
  const name = `${mark.verdict}${mark.version ? ` of version ${mark.version}` : ""}, ${moment(mark.at_s)}: ${mark.reason}`;
  return h(
    "g",
    {
      class: `mark ${mark.verdict.replace(" ", "-")}`,
      tabindex: 0,
      role: "button",
      "aria-label": name,
      "data-key": `mark-${mark.seq}`,
      onclick: open,
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          event.stopPropagation();
          open();
        }
      },
    },
    h("title", {}, name),
    h("line", { x1: x, x2: x, y1: LANE, y2: height - 22 }),
    h("text", { x, y: LANE - 6, "text-anchor": "middle" }, MARKS[mark.verdict]),
  );
}

/** One line for each version; `series` maps a version to its `[at_s, value]` pairs. */
export function lineChart({ series, time, cursorS, height, unit, onMove }) {
  const most = nice(Math.max(0, ...[...series.values()].flat().map(([, value]) => value)));
  const y = (value) => 10 + (1 - value / most) * (height - 32);
  const lines = [...series].map(([version, values]) => [
    h("path", {
      class: `line ${colour(version)}`,
      d: values.length
        ? `M${values.map(([atS, value]) => `${time.x(atS).toFixed(1)},${y(value).toFixed(1)}`).join("L")}`
        : "",
    }),
    values.length < 3
      ? values.map(([atS, value]) =>
          h("circle", { class: `dot ${colour(version)}`, cx: time.x(atS), cy: y(value), r: 2.5 }),
        )
      : null,
  ]);
  const grid = gridOf(time, y, [0, most / 2, most], (value) => `${short(value)}${unit}`);
  return h(
    "svg",
    {
      class: "chart",
      viewBox: `0 0 ${time.width} ${height}`,
      width: time.width,
      height,
      role: "img",
      "aria-label": "The chosen metric of each version over time",
      onpointermove: (event) => onMove(time.at(event.offsetX)),
      onpointerleave: () => onMove(null),
    },
    grid,
    lines,
    times(time, height),
    cursor(cursorS, time, 10, height),
  );
}

/** The smallest number with one digit that counts, or with a half behind it, that is not below a value. */
function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

function times(time, height) {
  const span = time.endS - time.startS;
  const room = Math.max(2, Math.floor((time.width - LEFT - RIGHT) / 110));
  const step = STEPS_S.find((each) => span / each <= room) ?? span / room;
  const offset = new Date(time.startS * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((time.startS - offset) / step) * step + offset; at <= time.endS; at += step) {
    const text = step >= 86400 ? moment(at).split(",")[0] : clock(at).slice(0, step < 60 ? 8 : 5);
    found.push(h("text", { class: "tick", x: time.x(at), y: height - 6, "text-anchor": "middle" }, text));
  }
  return found;
}

function cursor(atS, time, top, height) {
  if (atS === null) return null;
  return h("line", { class: "cursor", x1: time.x(atS), x2: time.x(atS), y1: top, y2: height - 22 });
}

/** What held at a moment, in words; with none, what holds at the end. */
export function readout(points, time, cursorS) {
  const atS = cursorS ?? time.endS;
  const point = splitAt(points, atS);
  const said = (split) =>
    split
      ? Object.keys(split)
          .filter((version) => split[version] > 0)
          .sort(byNumber)
          .map((version) => `version ${version} ${pct(split[version])}`)
          .join(", ")
      : "none";
  if (!point) return `${moment(atS)}: no live traffic yet`;
  const seen = `${moment(atS)}: read back ${said(point.observed)}`;
  return said(point.wanted) === said(point.observed) || !point.wanted ? seen : `${seen}; wanted ${said(point.wanted)}`;
}
