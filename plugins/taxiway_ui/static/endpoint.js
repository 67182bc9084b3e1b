// One endpoint: its split over time with the verdicts, a metric of each version, the evidence, and the ledger.

import { lineChart, axis, readout, splitChart } from "./chart.js";
import { h } from "./dom.js";
import { armsTable, comparisonTable, evidenceTable } from "./evidence.js";
import { Past } from "./past.js";
import { seriesOf } from "./series.js";
import { badge, chip, iso, isEqual, moment, shares, versions } from "./words.js";

const SPLIT_HEIGHT = 280;
const METRIC_HEIGHT = 170;
const LINES_AT_ONCE = 50;
const SPANS = [
  ["rollout", "Last rollout"],
  ["900", "15 minutes"],
  ["3600", "1 hour"],
  ["86400", "24 hours"],
  ["604800", "7 days"],
  ["all", "All"],
];
const LOUD = {
  promote: "badge good",
  complete: "badge good",
  "roll back": "badge bad",
  inconclusive: "badge busy",
  abort: "badge busy",
  superseded: "badge busy",
};
const METRICS = {
  errors: { label: "Failed requests", unit: " %", counted: (row) => 100 * row.bad },
  client_errors: { label: "4xx answers", unit: " %", counted: (row) => 100 * row.client_errors },
  p99: { label: "p99 latency", unit: " ms", value: (row) => row.p99_ms },
  p50: { label: "Median latency", unit: " ms", value: (row) => row.p50_ms },
  requests: { label: "Requests per second", unit: "", value: (row) => row.requests / row.width_s },
};

export class EndpointPage {
  constructor(ask, handle, redraw) {
    this.ask = ask;
    this.handle = handle;
    this.path = `endpoints/${encodeURIComponent(handle)}`;
    this.redraw = redraw;
    this.past = new Past(ask, this.path);
    this.timeline = [];
    this.span = "rollout";
    this.metric = null;
    this.cursorS = null;
    this.lines = LINES_AT_ONCE;
    this.width = 0;
    this.frame = null;
    document.title = `${handle} – traffic`;
    new ResizeObserver(() => this.resized()).observe(document.getElementById("page"));
  }

  async read() {
    const [said] = await Promise.all([this.ask(this.path), this.past.read()]);
    this.endpoint = said.endpoint;
    this.nowS = said.now_s;
    await this.measure();
    return said.now_s;
  }

  async measure() {
    const [startS, endS] = this.range();
    this.timeline = (await this.ask(`${this.path}/timeline?since_s=${startS}&until_s=${endS}`)).rows;
  }

  resized() {
    const width = document.getElementById("page").clientWidth;
    if (this.endpoint && width !== this.width) this.redraw();
  }

  /** The span that is shown, in seconds since the epoch. */
  range() {
    const { points, events } = this.past;
    const firstS = Math.min(points[0]?.at_s ?? this.nowS, events[0]?.at_s ?? this.nowS);
    const rollout = this.endpoint.rollout;
    if (this.span === "rollout" && rollout) {
      const endS = rollout.ended_at_s ?? this.nowS;
      const margin = Math.max(10, (endS - rollout.started_at_s) * 0.1);
      return [Math.max(firstS, rollout.started_at_s - margin), Math.min(this.nowS, endS + margin)];
    }
    return [Number(this.span) ? this.nowS - Number(this.span) : firstS, this.nowS];
  }

  view() {
    this.width = document.getElementById("page").clientWidth;
    this.versions = versions(this.past.points, this.endpoint.variants);
    this.time = axis(...this.range(), this.width);
    return [this.header(), this.rollout(), this.charts(), this.evidence(), this.ledger()];
  }

  header() {
    const { phase, stable, previous, split, url } = this.endpoint;
    const differs = split.is_known && !isEqual(split.desired, split.observed);
    const seen = split.is_known ? shares(split.observed) : "unknown: the gateway does not answer";
    return h(
      "header",
      {},
      h("nav", { "aria-label": "Way back" }, h("a", { href: "./" }, "All endpoints")),
      h("h1", {}, this.handle, " ", badge(h, phase)),
      h(
        "dl",
        { class: "facts" },
        fact("Live", stable === null ? "nothing yet" : chip(h, stable)),
        fact("Before it", previous === null ? "none" : `version ${previous}`),
        fact("Read back", seen),
        fact("Wanted", h("span", { class: differs ? "warn" : "" }, shares(split.desired))),
        fact("Address", h("code", {}, url)),
      ),
    );
  }

  rollout() {
    const rollout = this.endpoint.rollout;
    if (!rollout)
      return h("section", { class: "empty" }, h("h2", {}, "No rollout so far"), h("p", {}, waiting(this.endpoint)));
    const isOver = rollout.status === "ended";
    return h(
      "section",
      {},
      h(
        "h2",
        {},
        `${isOver ? "Last rollout" : "Rollout"}: ${rollout.strategy} to version ${candidates(rollout)}`,
        rollout.outcome ? `, ${rollout.outcome}` : "",
      ),
      h("p", { class: "reason" }, rollout.reason),
      h(
        "ol",
        { class: "steps" },
        rollout.steps.map((step, place) =>
          h(
            "li",
            { class: stepClass(place, rollout), "aria-current": place === rollout.step && !isOver ? "step" : null },
            stepText(step),
          ),
        ),
      ),
      h(
        "p",
        { class: "quiet" },
        `${rollout.id}, asked for by ${rollout.actor}, began ${moment(rollout.started_at_s)}`,
        isOver ? `, ended ${moment(rollout.ended_at_s)}` : `, wanted ${wanted(rollout)}`,
        `; ${rollout.units.canary} units seen, ${rollout.units.bad} bad`,
      ),
    );
  }

  charts() {
    const { points } = this.past;
    const [label, unit, series] = this.series();
    const move = (atS) => {
      this.cursorS = atS;
      this.frame ??= requestAnimationFrame(() => {
        this.frame = null;
        this.redraw();
      });
    };
    const common = { time: this.time, cursorS: this.cursorS, onMove: move };
    const inside = (mark) => mark.at_s >= this.time.startS && mark.at_s <= this.time.endS;
    return h(
      "section",
      {},
      h("div", { class: "bar" }, h("h2", {}, "Split over time"), this.spanChoice(), this.exports()),
      h("p", { class: "readout figures" }, readout(points, this.time, this.cursorS)),
      splitChart({
        ...common,
        points,
        versions: this.versions,
        marks: this.past.marks().filter(inside),
        height: SPLIT_HEIGHT,
        onKey: (event) => this.key(event),
        onMark: (seq) => this.open(seq),
      }),
      h(
        "p",
        { class: "legend" },
        this.versions.map((version) => chip(h, version)),
        h(
          "span",
          { class: "quiet" },
          "Areas: read back from the gateway. Dotted: wanted. ▲ promoted ▼ rolled back ■ inconclusive ◆ completed ✕ aborted or superseded",
        ),
        this.past.isWhole ? null : h("span", { class: "warn" }, "the ledger is long and still being read"),
      ),
      h("div", { class: "bar" }, h("h2", {}, label), this.metricChoice()),
      h(
        "div",
        { class: "metric" },
        series.size
          ? lineChart({ ...common, series, unit, height: METRIC_HEIGHT })
          : h("p", { class: "nothing quiet" }, "No request was measured in this time."),
      ),
    );
  }

  /** The chosen metric: its label, its unit, and its values by version. */
  series() {
    const name = this.metric ?? this.rewards()[0] ?? "errors";
    const metric = METRICS[name] ?? reward(name);
    return [metric.label, metric.unit, seriesOf(this.timeline, metric, this.nowS)];
  }

  rewards() {
    return [...new Set(this.timeline.flatMap((row) => Object.keys(row.rewards ?? {})))].sort();
  }

  metricChoice() {
    const names = [
      ...this.rewards().map((name) => [name, reward(name).label]),
      ...Object.entries(METRICS).map(([name, { label }]) => [name, label]),
    ];
    const chosen = this.metric ?? names[0][0];
    return choice("Metric", names, chosen, (value) => {
      this.metric = value;
      this.redraw();
    });
  }

  spanChoice() {
    const change = async (value) => {
      this.span = value;
      this.cursorS = null;
      this.redraw();
      // It is asked again with everything else in a moment, and the reason stands above the page then.
      await this.measure().catch(() => null);
      this.redraw();
    };
    return choice("Time", SPANS, this.span, change);
  }

  exports() {
    const link = (suffix, label) =>
      h("a", { href: `api/${this.path}/export.${suffix}`, download: `${this.handle}.${suffix}` }, label);
    return h("span", { class: "exports" }, "Split and metrics as ", link("csv", "CSV"), " or ", link("json", "JSON"));
  }

  /** Move from change to change of the split. */
  key(event) {
    const changes = this.past.points
      .map((point) => point.at_s)
      .filter((atS) => atS >= this.time.startS && atS <= this.time.endS);
    const nowS = this.cursorS ?? this.time.endS;
    const moves = {
      ArrowLeft: () => changes.findLast((atS) => atS < nowS),
      ArrowRight: () => changes.find((atS) => atS > nowS),
      Home: () => changes[0],
      End: () => changes.at(-1),
      Escape: () => null,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const target = moves[event.key]();
    if (target === undefined) return;
    this.cursorS = target;
    this.redraw();
  }

  evidence() {
    const rollout = this.endpoint.rollout;
    if (!rollout) return null;
    return h(
      "section",
      {},
      h("h2", {}, "Evidence"),
      h(
        "p",
        { class: "quiet" },
        "A guard speaks when its log e-value reaches its threshold; it may be looked at as often as one likes.",
      ),
      rollout.evidence.length
        ? evidenceTable(rollout.evidence)
        : h("p", { class: "nothing quiet" }, "No guard has seen evidence yet."),
      some(rollout.arms) ? armsTable(rollout.arms) : null,
      some(rollout.comparison) ? comparisonTable(rollout.comparison) : null,
      Object.entries(rollout.dropped ?? {}).map(([version, why]) =>
        h("p", {}, `Version ${version} was dropped: ${why}`),
      ),
    );
  }

  ledger() {
    const { events } = this.past;
    const newest = events.slice(-this.lines).reverse();
    const titles = ["#", "When", "What", "Version", "Who", "Why"];
    const more =
      events.length > this.lines
        ? h(
            "button",
            {
              type: "button",
              onclick: () => {
                this.lines += LINES_AT_ONCE;
                this.redraw();
              },
            },
            `Show ${Math.min(LINES_AT_ONCE, events.length - this.lines)} more of ${events.length}`,
          )
        : null;
    return h(
      "section",
      {},
      h("h2", {}, "Ledger"),
      h("p", { class: "quiet" }, "Newest first. Looks that only waited are left out here; the ledger keeps them."),
      h(
        "div",
        { class: "scroll" },
        h(
          "table",
          { class: "ledger" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              titles.map((title) => h("th", { scope: "col" }, title)),
            ),
          ),
          h("tbody", {}, newest.map(line)),
        ),
      ),
      more,
    );
  }

  /** Bring a ledger line into view, from its mark on the chart. */
  open(seq) {
    const place = this.past.events.length - this.past.events.findIndex((event) => event.seq === seq);
    this.lines = Math.max(this.lines, place);
    this.redraw();
    const found = document.getElementById(`entry-${seq}`);
    const details = found?.querySelector("details");
    if (details) details.open = true;
    found?.focus();
  }
}

const reward = (name) => ({ label: `${name} per request`, unit: "", counted: (row) => row.rewards?.[name]?.sum ?? 0 });

const wanted = (rollout) => shares(rollout.weights ?? { [rollout.version]: rollout.weight_pct });
const candidates = (rollout) => [rollout.version, ...(rollout.rivals ?? [])].join(", ");
const some = (record) => Boolean(record) && Object.keys(record).length > 0;

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function choice(label, options, chosen, onChange) {
  const made = options.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
  return h("label", {}, `${label} `, h("select", { onchange: (event) => onChange(event.target.value) }, made));
}

function line(event) {
  const version = event.version === null ? "" : chip(h, event.version);
  const why = event.evidence.length
    ? h("details", {}, h("summary", {}, event.reason), evidenceTable(event.evidence))
    : event.reason;
  return h(
    "tr",
    { id: `entry-${event.seq}`, "data-key": event.seq, tabindex: -1 },
    h("td", { class: "figures" }, String(event.seq)),
    h("td", {}, h("time", { datetime: iso(event.at_s) }, moment(event.at_s))),
    h("td", {}, h("span", { class: LOUD[event.verdict] ?? "" }, event.verdict ?? event.kind)),
    h("td", {}, version),
    h("td", {}, event.actor),
    h("td", {}, why),
  );
}

function stepClass(place, rollout) {
  if (rollout.outcome === "Promoted" || place < rollout.step) return "done";
  if (place > rollout.step) return "";
  return rollout.status === "ended" ? "left" : "now";
}

function stepText(step) {
  const [name, value] = Object.entries(step)[0];
  if (value === null || typeof value !== "object")
    return name === "setWeight" ? `${name} ${value} %` : `${name} ${value}`;
  const options = Object.entries(value).filter(([, each]) => each !== null && each !== false);
  return [
    name,
    ...options.map(([key, each]) => `${key} ${typeof each === "object" ? JSON.stringify(each) : each}`),
  ].join(" ");
}

function waiting(endpoint) {
  const phases = Object.values(endpoint.variants).map(
    (variant) => `version ${variant.version} is ${variant.phase}${variant.reason ? ` (${variant.reason})` : ""}`,
  );
  const deployed = phases.length ? `Deployed: ${phases.join(", ")}. ` : "";
  return `${deployed}It gets live traffic when a rollout begins: run a DAG with a TrafficOperator.`;
}
