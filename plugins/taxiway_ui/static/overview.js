// All endpoints: what is live, and what is under way.

import { h } from "./dom.js";
import { badge, byNumber, colour, isEqual, pct, shares } from "./words.js";

export class OverviewPage {
  constructor(ask) {
    this.ask = ask;
    this.endpoints = [];
  }

  async read() {
    const said = await this.ask("endpoints");
    this.endpoints = said.endpoints.sort((one, other) => one.handle.localeCompare(other.handle));
    return said.now_s;
  }

  view() {
    const running = this.endpoints.filter((endpoint) => isRunning(endpoint.rollout)).length;
    const count = `${this.endpoints.length} endpoint${this.endpoints.length === 1 ? "" : "s"}`;
    return [
      h(
        "header",
        {},
        h("h1", {}, "Live traffic"),
        h("p", { class: "quiet" }, `${count}, ${running} rollout${running === 1 ? "" : "s"} under way`),
      ),
      this.endpoints.length ? this.table() : empty(),
    ];
  }

  table() {
    const titles = ["Endpoint", "Phase", "Live", "Traffic, as read back", "Rollout"];
    return h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "overview" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            titles.map((title) => h("th", { scope: "col" }, title)),
          ),
        ),
        h("tbody", {}, this.endpoints.map(row)),
      ),
    );
  }
}

const isRunning = (rollout) => Boolean(rollout) && rollout.status !== "ended";

function row(endpoint) {
  const { handle, phase, stable, split, rollout } = endpoint;
  return h(
    "tr",
    { "data-key": handle },
    h("th", { scope: "row" }, h("a", { href: `endpoints/${encodeURIComponent(handle)}` }, handle)),
    h("td", {}, badge(h, phase)),
    h("td", {}, stable === null ? "nothing yet" : `version ${stable}`),
    h("td", {}, splitCell(split)),
    h("td", { class: "rollout" }, rollout ? rolloutCell(rollout) : h("span", { class: "quiet" }, "none so far")),
  );
}

function splitCell(split) {
  if (!split.is_known)
    return h("span", { class: "warn" }, `unknown: the gateway does not answer; wanted ${shares(split.desired)}`);
  const wanted = isEqual(split.desired, split.observed)
    ? null
    : h("div", { class: "warn" }, `wanted ${shares(split.desired)}`);
  return [split.observed ? bar(split.observed) : null, h("div", { class: "figures" }, shares(split.observed)), wanted];
}

function bar(split) {
  let x = 0;
  const parts = Object.entries(split)
    .sort(([one], [other]) => byNumber(one, other))
    .map(([version, share]) => {
      x += share;
      return h(
        "rect",
        { x: x - share, width: share, height: 8, class: colour(version) },
        h("title", {}, `version ${version}: ${pct(share)}`),
      );
    });
  return h(
    "svg",
    { class: "splitbar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    parts,
  );
}

function rolloutCell(rollout) {
  const where = isRunning(rollout) ? `step ${rollout.step + 1} of ${rollout.steps.length}` : rollout.outcome;
  return [
    h("div", {}, `${rollout.strategy} to version ${rollout.version}: ${where}`),
    h("div", { class: "quiet" }, rollout.reason),
  ];
}

function empty() {
  return h(
    "section",
    { class: "empty" },
    h("h2", {}, "No endpoint yet"),
    h(
      "p",
      {},
      "An endpoint appears here when its first model version is deployed: run a DAG with a DeployOperator, and a TrafficOperator to give it traffic.",
    ),
  );
}
