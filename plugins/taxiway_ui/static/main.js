// Which page the address names, how often it is asked for, and what stands above it. Reads only.

import { h, show } from "./dom.js";
import { EndpointPage } from "./endpoint.js";
import { OverviewPage } from "./overview.js";
import { clock } from "./words.js";

const EVERY_MS = 3000;
const page = document.getElementById("page");
const status = document.getElementById("status");
const root = new URL(".", document.baseURI);

/** Ask this application's own server; what it refuses is an error with the next step. */
async function ask(path) {
  let answer;
  try {
    answer = await fetch(new URL(`api/${path}`, root), { headers: { accept: "application/json" } });
  } catch {
    throw Object.assign(new Error("Airflow's API server does not answer"), {
      nextStep: "It is asked again every few seconds.",
    });
  }
  if (answer.ok) return answer.json();
  if (answer.status === 401 || answer.status === 403) {
    throw Object.assign(new Error("Airflow does not know you any longer, or you may not see plugins"), {
      nextStep: "Reload Airflow and log in.",
    });
  }
  // What no server of Taxiway said, a proxy's page perhaps, is told by its status alone.
  const said = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(said.message ?? `HTTP ${answer.status}`), {
    nextStep: said.next_step ?? "",
    status: answer.status,
  });
}

function followTheme() {
  // In Airflow the page stands in a frame of the same origin, whose theme it takes over; alone, the reader's own choice.
  const outer = window.parent === window ? null : window.parent.document.documentElement;
  const preferred = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const chosen = localStorage.getItem("theme");
    const isDark = outer
      ? outer.classList.contains("dark")
      : chosen === "dark" || (chosen !== "light" && preferred.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  };
  apply();
  preferred.addEventListener("change", apply);
  if (outer) new MutationObserver(apply).observe(outer, { attributeFilter: ["class"] });
}

function chosenPage() {
  const named = window.location.pathname.match(/\/endpoints\/([^/]+)\/?$/);
  return named ? new EndpointPage(ask, decodeURIComponent(named[1]), draw) : new OverviewPage(ask);
}

const shown = chosenPage();
let lastGood = null;

function draw() {
  show(page, shown.view());
}

/** Say how fresh the page is. Only trouble is read out, or a screen reader would never be silent. */
function tell(error) {
  status.className = error ? "away" : "";
  status.setAttribute("aria-live", error ? "polite" : "off");
  show(status, h("span", {}, error ? stale(error) : `As of ${clock(lastGood)}, read again every ${EVERY_MS / 1000} s`));
}

function stale(error) {
  if (!lastGood) return "Nothing could be read";
  return `Not up to date: what is shown was said at ${clock(lastGood)}. ${error.message}. ${error.nextStep ?? ""}`;
}

function problem(error) {
  return h(
    "section",
    { class: "problem", role: "alert" },
    h("h2", {}, error.message),
    error.nextStep ? h("p", {}, error.nextStep) : null,
    error.status === 404 ? h("p", {}, h("a", { href: "./" }, "All endpoints")) : null,
  );
}

async function refresh() {
  try {
    lastGood = await shown.read();
    draw();
    tell(null);
  } catch (error) {
    tell(error);
    // What was read before stays; the reason stands above it.
    if (!lastGood) show(page, problem(error));
  }
  setTimeout(whenSeen, EVERY_MS);
}

/** A page that nobody looks at asks nobody. */
function whenSeen() {
  if (document.hidden) document.addEventListener("visibilitychange", whenSeen, { once: true });
  else refresh();
}

followTheme();
refresh();
