// What is known of an endpoint's past: read from the ledger once, then only what is new.

const MARKED = new Set(["promote", "complete", "roll back", "inconclusive"]);
const GIVEN_UP = new Set(["abort", "superseded"]);
const PAGES_AT_ONCE = 5;

export class Past {
  constructor(ask, path) {
    this.ask = ask;
    this.path = path;
    this.points = [];
    this.events = [];
    this.givenUp = new Set();
    this.after = 0;
    this.isWhole = false;
  }

  /** Read on from where the last call stopped; a long ledger takes several calls. */
  async read() {
    for (let count = 0; count < PAGES_AT_ONCE; count += 1) {
      const said = await this.ask(`${this.path}/history?after=${this.after}`);
      this.after = said.next_after;
      said.events.forEach((event) => this.tell(event));
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

  /** Take an event. Traffic that goes back after an abort or for a newer rollout is nobody's verdict. */
  tell(event) {
    if (event.kind === "verb" && GIVEN_UP.has(event.verdict)) this.givenUp.add(event.rollout);
    const isTold = event.verdict === "roll back" && this.givenUp.has(event.rollout);
    this.events.push(isTold ? { ...event, verdict: "taken back" } : event);
  }

  /** What ends or stops a rollout: verdicts, each once, and a person's abort or a newer rollout. */
  marks() {
    const seen = new Set();
    return this.events.filter((event) => {
      const key = `${event.rollout} ${event.verdict}`;
      const marked = { decision: MARKED, verb: GIVEN_UP }[event.kind];
      if (!marked?.has(event.verdict) || seen.has(key)) return false;
      seen.add(key);
      return true;
    });
  }
}
