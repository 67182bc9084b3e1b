// From rows of the timeline to lines of a chart.

const ENOUGH = 30;

/**
 * The values of a metric by version, as `[at_s, value]` pairs. A mean of a handful of requests is noise, so neighbouring
 * buckets are joined until they hold enough, and what is left at the end is left out; a version that never had as many
 * gets one point.
 */
export function seriesOf(rows, metric, nowS) {
  const found = new Map();
  for (const version of [...new Set(rows.map((row) => row.version))].sort((one, other) => one - other)) {
    // The bucket that time is still in would look like a fall.
    const own = rows.filter((row) => row.version === version && row.at_s + row.width_s <= nowS);
    const pairs = metric.counted ? means(own, metric.counted) : values(own, metric.value);
    if (pairs.length) found.set(String(version), pairs);
  }
  return found;
}

function values(rows, value) {
  const pairs = rows.map((row) => [row.at_s + row.width_s / 2, value(row)]);
  return pairs.filter(([, each]) => each !== null && each !== undefined);
}

function means(rows, counted) {
  const pairs = [];
  let [requests, sum, startS] = [0, 0, null];
  rows.forEach((row, place) => {
    startS ??= row.at_s;
    requests += row.requests;
    sum += counted(row);
    const isAll = pairs.length === 0 && place === rows.length - 1;
    if (requests >= ENOUGH || (requests > 0 && isAll)) {
      pairs.push([(startS + row.at_s + row.width_s) / 2, sum / requests]);
      [requests, sum, startS] = [0, 0, null];
    }
  });
  return pairs;
}
