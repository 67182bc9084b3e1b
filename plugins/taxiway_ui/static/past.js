// What is known of an endpoint's past: read from the ledger once, then only what is new.

const MARKED = new Set(["promote", "complete", "roll back", "inconclusive"]);
const PAGES_AT_ONCE = 5;

export class Past {
  constructor(ask, path) {
    this.ask = ask;
    this.path = path;
    this.points = [];
    this.events = [];
    this.after = 0;
    this.isWhole = false;
  }

  /** Read on from where the last call stopped; a long ledger takes several calls. */
  async read() {
    for (let count = 0; count < PAGES_AT_ONCE; count += 1) {
      const said = await this.ask(`${this.path}/history?after=${this.after}`);
      this.after = said.next_after;
      this.events.push(...said.events);
      said.points.forEach((point) => this.add(point));
      this.isWhole = !said.has_more;
      if (this.isWhole) return;
    }
  }

  add(point) {
    const last = this.points.at(-1);
    this.points.push({
      at_s: point.at_s,
      wanted: point.wanted ?? last?.wanted ?? null,
      observed: point.observed ?? last?.observed ?? null,
    });
  }

  /** Verdicts that end or stop a rollout; of a rollback, which takes two, the first. */
  marks() {
    const seen = new Set();
    return this.events.filter((event) => {
      const key = `${event.rollout} ${event.verdict}`;
      if (event.kind !== "decision" || !MARKED.has(event.verdict) || seen.has(key)) return false;
      seen.add(key);
      return true;
    });
  }
}
