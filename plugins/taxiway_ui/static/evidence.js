// What speaks for and against a version, as tables: guards with their evidence, arms of a bandit, metrics without a verdict.

import { h } from "./dom.js";
import { chip, pct, short } from "./words.js";

const SAYS = { yes: "proven", no: "not proven", unknown: "no evidence yet" };

/** A table of readings: what each guard asks, how far its evidence is, what it says. */
export function evidenceTable(readings) {
  const titles = ["Guard", "Acts by", "Evidence of what it needs", "Says", "In words"];
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "evidence" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          titles.map((title) => h("th", { scope: "col" }, title)),
        ),
      ),
      h("tbody", {}, readings.map(row)),
    ),
  );
}

const isProof = (guard) => guard.endsWith("certificate");

function acts(reading) {
  if (reading.acts === false) return "nothing: dry run";
  if (isProof(reading.guard)) return "allowing promotion";
  return reading.guard === "sample_ratio" ? "pausing" : "rolling back";
}

function row(reading) {
  const isReached = reading.answer === "yes";
  const tone = isReached ? (isProof(reading.guard) ? "good" : "bad") : "";
  return h(
    "tr",
    { "data-key": `${reading.guard} ${reading.version ?? ""}` },
    h("th", { scope: "row" }, reading.version ? `${reading.guard}, version ${reading.version}` : reading.guard),
    h("td", {}, acts(reading)),
    h("td", {}, meter(reading, tone)),
    h("td", {}, h("span", { class: tone ? `badge ${tone}` : "" }, SAYS[reading.answer] ?? reading.answer)),
    h("td", { class: "quiet" }, reading.reason),
  );
}

function meter(reading, tone) {
  const share = reading.threshold > 0 ? Math.min(Math.max(reading.log_e / reading.threshold, 0), 1) : 0;
  const text = `log e ${reading.log_e.toFixed(2)} of ${reading.threshold.toFixed(2)}`;
  return h(
    "div",
    {
      class: "meter",
      role: "meter",
      "aria-valuenow": reading.log_e,
      "aria-valuemin": 0,
      "aria-valuemax": reading.threshold,
      "aria-valuetext": text,
    },
    h(
      "svg",
      { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      h("rect", { class: "full", width: 100, height: 8 }),
      h("rect", { class: `done ${tone}`, width: 100 * share, height: 8 }),
    ),
    h("span", { class: "figures" }, text),
  );
}

/** The arms of a bandit or an experiment: what each was shown, what it earned, how probable it is that it is the best. */
export function armsTable(arms) {
  const titles = ["Arm", "Weight", "Shown", "Credited", "Earned", "Mean", "Is best with", "Pending"];
  return table(
    "arms",
    titles,
    Object.entries(arms).map(([version, arm]) =>
      h(
        "tr",
        { "data-key": version },
        h("th", { scope: "row" }, chip(h, version)),
        h("td", {}, pct(arm.weight_pct)),
        ["exposures", "credited", "total", "mean"].map((name) => h("td", {}, short(arm[name]))),
        h("td", {}, pct(100 * arm.p_best)),
        h("td", {}, short(arm.pending)),
      ),
    ),
  );
}

/** What a shadow's answers were like, beside what two copies of stable differ by anyway. */
export function comparisonTable(comparison) {
  const [first] = Object.values(comparison);
  const names = Object.keys(first).filter((name) => typeof first[name] === "number");
  const titles = ["Shadow", ...names.map((name) => name.replaceAll("_", " "))];
  return table(
    "arms",
    titles,
    Object.entries(comparison).map(([version, seen]) =>
      h(
        "tr",
        { "data-key": version },
        h("th", { scope: "row" }, chip(h, version)),
        names.map((name) => h("td", {}, short(seen[name]))),
      ),
    ),
  );
}

function table(kind, titles, rows) {
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: kind },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          titles.map((title) => h("th", { scope: "col" }, title)),
        ),
      ),
      h("tbody", {}, rows),
    ),
  );
}
