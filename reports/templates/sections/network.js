"use strict";
// Sliders over simulated networks. The numbers are data in the page; nothing is simulated here and nothing is fetched.
(() => {
  const STEPS = 8; // positions of the slider from one simulated bandwidth to the next
  const NARROW = 1e-9;

  // Numbers as the rest of the report writes them: three significant digits.
  const number = (value, digits = 3) => {
    if (value === 0) return "0";
    const size = Math.floor(Math.log10(Math.abs(value)));
    if (size >= digits - 1) return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
    return size < -4 ? value.toPrecision(digits - 1) : value.toFixed(digits - 1 - size);
  };
  const bytes = (value) => {
    const [scale, unit] = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]].find(([s]) => value >= s) ?? [1, "B"];
    return `${number(value / scale)}\u00a0${unit}`;
  };
  const amount = (value, { name, unit }) =>
    unit === "B" ? bytes(value) : `${number(value, unit === "nat" ? 4 : 3)}\u00a0${unit}`;
  const gbit = (value) => `${Number(value.toPrecision(3))}\u00a0Gbit/s`;
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);

  const svg = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const colour = (label) => `var(--a${label.look})`;

  // On the straight line between two points on logarithmic axes; at both points theirs exactly.
  const logLog = (x, [x0, y0], [x1, y1]) => {
    if (x === x0) return y0;
    if (x === x1) return y1;
    return y0 * (y1 / y0) ** (Math.log(x / x0) / Math.log(x1 / x0));
  };

  for (const panel of document.querySelectorAll(".network")) {
    const data = JSON.parse(panel.querySelector(".network-data").textContent);
    const { texts, labels, criteria, bandwidths, latencies } = data;
    const part = (name) => panel.querySelector(`.network-${name}`);
    const sliders = { bandwidth: document.getElementById(`${data.name}-bandwidth`),
                      latency: document.getElementById(`${data.name}-latency`) };
    const losses = data.points.flatMap((point) => point.rows.flatMap((row) => row.loss)).filter((y) => y > 0);
    const times = data.points.flatMap((point) => point.rows.flatMap((row) => row.t_s));
    let said = "";

    const bandwidthAt = (position) => {
      const i = Math.min(Math.floor(position / STEPS), bandwidths.length - 1);
      const rest = position - i * STEPS;
      return rest ? bandwidths[i] * (bandwidths[i + 1] / bandwidths[i]) ** (rest / STEPS) : bandwidths[i];
    };
    const place = () => ({
      bandwidth: bandwidthAt(sliders.bandwidth ? Number(sliders.bandwidth.value) : 0),
      latency: latencies[sliders.latency ? Number(sliders.latency.value) : 0],
    });
    const criterion = () => {
      const chosen = panel.querySelector("input[type=radio]:checked");
      return criteria.find(({ name }) => name === chosen?.value) ?? criteria[0];
    };

    // What is known of an algorithm's number here: {value} or {value, low, high}, or why there is none.
    const known = (label, { bandwidth, latency }, name) => {
      const line = data.points
        .filter((point) => point.latency === latency && point.rows.some((row) => row.label === label))
        .map((point) => ({ bandwidth: point.bandwidth, ...point.rows.find((row) => row.label === label) }));
      const below = line.filter((row) => row.bandwidth <= bandwidth).at(-1);
      const above = line.find((row) => row.bandwidth >= bandwidth);
      if (!below || !above) return { why: texts.not_simulated };
      if (below === above) {
        const [value, low, high] = below.values[name];
        if (value !== null) return { value, low, high };
        if (!below.runs) return { why: texts.no_result };
        if (!name.includes("_to_target")) return { why: texts.no_result };
        return { why: below.reached ? fill(texts.some_reached, { n: below.reached, runs: below.runs }) : texts.not_reached };
      }
      const ends = [below, above].map((row) => [row.bandwidth, row.values[name][0]]);
      const without = ends.find(([, value]) => !(value > 0));
      if (without && name.includes("_to_target")) return { why: fill(texts.neighbour, { bandwidth: gbit(without[0]) }) };
      return without ? { why: texts.no_result } : { value: logLog(bandwidth, ...ends) };
    };

    const ranking = (at, by) =>
      labels
        .map((label, i) => ({ label, i, ...known(i, at, by.name) }))
        .sort((a, b) => {
          if (a.value === undefined || b.value === undefined) return (a.value === undefined) - (b.value === undefined);
          return (by.lower ? a.value - b.value : b.value - a.value) || a.i - b.i;
        });

    const key = ({ look, dash }) => {
      const drawn = svg("svg", { class: "key", viewBox: "0 0 34 10", "aria-hidden": "true" });
      drawn.append(svg("path", { d: "M1 5H33", stroke: `var(--a${look})`, "stroke-width": 3, "stroke-dasharray": dash || "none" }));
      return drawn;
    };

    const table = (order, at, by) => {
      const head = element("tr");
      for (const [text, unit, scope] of [[texts.algorithm, "", "col"], ...criteria.map((c) => [c.heading, c.unit, "col"])]) {
        const cell = element("th", "", text);
        cell.scope = scope;
        if (unit && unit !== "B") cell.append(" ", element("span", "unit", unit));
        head.append(cell);
      }
      part("ranking").tHead.replaceChildren(head);
      const most = Math.max(...order.map(({ value }) => value ?? 0));
      const rows = order.map(({ label, i }) => {
        const row = element("tr");
        const name = element("th");
        const text = element("span", "name", label.name);
        name.scope = "row";
        name.append(key(label), text);
        row.append(name);
        for (const one of criteria) {
          const found = known(i, at, one.name);
          const cell = element("td", one === by ? "network-by" : "");
          if (found.value === undefined) {
            cell.append(element("span", "no-result", found.why));
          } else {
            const short = (value) => (one.unit === "B" ? bytes(value) : number(value, one.unit === "nat" ? 4 : 3));
            cell.append(short(found.value));
            if (one === by) {
              const bar = element("span", "bar");
              bar.style.width = `${(100 * found.value) / most}%`;
              bar.style.background = colour(label);
              cell.append(bar);
            }
            const [low, high] = [found.low, found.high].map((end) => (end == null ? "" : short(end)));
            if (low && !(low === high && low === short(found.value))) cell.append(element("small", "", fill(texts.to, { low, high })));
          }
          row.append(cell);
        }
        return row;
      });
      part("ranking").tBodies[0].replaceChildren(...rows);
    };

    // Curves of the simulated network that is nearest; axes stay as they are, so that moving the slider shows.
    const curves = ({ bandwidth, latency }) => {
      const figure = part("curves");
      const here = data.points.filter((point) => point.latency === latency);
      const away = (point) => Math.abs(Math.log(point.bandwidth / bandwidth));
      const point = here.reduce((best, one) => (away(one) < away(best) - NARROW ? one : best), here[0]);
      const lines = (point?.rows ?? []).filter((row) => row.t_s.length > 1);
      figure.hidden = !losses.length;
      const wide = figure.clientWidth;
      if (!losses.length || !wide) return;
      const tall = Math.min(320, Math.max(230, 0.62 * wide));
      const size = Math.max(...labels.map(({ name }) => Math.min(name.length, 18))) * 7.2 + 14;
      const [left, right, top, bottom] = [44, Math.min(size, 0.36 * wide), 10, 38];
      const [low, high] = [Math.min(...losses, data.target ?? Infinity) / 1.06, Math.max(...losses) * 1.06];
      const log = high / low > 4;
      const scale = log ? Math.log : (v) => v;
      const end = Math.max(...times);
      const x = (t) => left + ((wide - left - right) * t) / end;
      const y = (loss) => top + (tall - top - bottom) * (1 - (scale(loss) - scale(low)) / (scale(high) - scale(low)));
      const caption = fill(texts.curves, { bandwidth: gbit(point.bandwidth), latency: data.latency_texts[latencies.indexOf(latency)] });
      const drawn = svg("svg", { viewBox: `0 0 ${wide} ${tall}`, width: wide, height: tall, role: "img" });
      for (const tick of nice(low, high, log, tall / 55)) {
        drawn.append(svg("path", { d: `M${left} ${y(tick)}H${wide - right}`, stroke: "var(--grid)" }),
                     svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, tick));
      }
      for (const tick of nice(0, end, false, wide / 110)) {
        drawn.append(svg("path", { d: `M${x(tick)} ${tall - bottom}v4`, stroke: "var(--muted)" }),
                     svg("text", { x: x(tick), y: tall - bottom + 17, "text-anchor": "middle" }, tick));
      }
      drawn.append(svg("path", { d: `M${left} ${top}V${tall - bottom}H${wide - right}`, stroke: "var(--muted)", fill: "none" }),
                   svg("text", { x: (left + wide - right) / 2, y: tall - 5, "text-anchor": "middle" }, "s"),
                   svg("text", { x: 2, y: top + 2 }, "nat"));
      if (data.target !== null) {
        drawn.append(svg("path", { d: `M${left} ${y(data.target)}H${wide - right}`, stroke: "var(--ink)", "stroke-dasharray": "2 3" }),
                     svg("text", { x: left + 5, y: y(data.target) - 4 }, texts.target));
      }
      const ends = [];
      for (const row of lines) {
        const label = labels[row.label];
        const seen = row.loss.map((loss, i) => [row.t_s[i], loss]).filter(([t, loss]) => t !== null && loss > 0);
        if (!seen.length) continue;
        drawn.append(svg("path", {
          d: `M${seen.map(([t, loss]) => `${x(t).toFixed(1)} ${y(loss).toFixed(1)}`).join("L")}`,
          fill: "none", stroke: colour(label), "stroke-width": 2, "stroke-dasharray": label.dash || "none",
        }));
        ends.push({ label, t: seen.at(-1)[0], loss: seen.at(-1)[1], at: y(seen.at(-1)[1]) });
      }
      ends.sort((a, b) => a.at - b.at);
      ends.forEach((one, i) => { one.text = Math.max(one.at, i ? ends[i - 1].text + 14 : top + 6); });
      [...ends].reverse().forEach((one, i, from) => { one.text = Math.min(one.text, i ? from[i - 1].text - 14 : tall - bottom); });
      for (const { label, t, at, text } of ends) {
        const name = label.name.length > 18 ? `${label.name.slice(0, 8)}…${label.name.slice(-9)}` : label.name;
        drawn.append(svg("path", { d: `M${x(t)} ${at}L${wide - right + 7} ${text}`, stroke: colour(label), "stroke-width": 0.7 }),
                     svg("text", { x: wide - right + 9, y: text + 4, class: "name", style: `fill: ${colour(label)}` }, name));
      }
      const told = ends.map(({ label, t, loss }) => fill(texts.curve, { name: label.name, loss: number(loss), seconds: number(t) }));
      drawn.setAttribute("aria-label", `${caption}. ${told.join("; ")}`);
      figure.querySelector("figcaption").textContent = caption;
      figure.querySelector("div").replaceChildren(drawn);
    };

    const show = () => {
      const at = place();
      const by = criterion();
      const latency = data.latency_texts[latencies.indexOf(at.latency)];
      const where = { bandwidth: gbit(at.bandwidth), latency };
      const point = data.points.find((one) => one.bandwidth === at.bandwidth && one.latency === at.latency);
      const order = ranking(at, by);
      const [best, second] = order.filter(({ value }) => value !== undefined);
      const first = best ? fill(by.first, { name: best.label.name, value: amount(best.value, by) }) : texts.none;
      const next = second ? fill(texts.next, { name: second.label.name, value: amount(second.value, by) }) : "";
      const low = bandwidths.filter((one) => one < at.bandwidth).at(-1);
      const high = bandwidths.find((one) => one > at.bandwidth);
      const state = point
        ? fill(texts.simulated, where)
        : bandwidths.includes(at.bandwidth)
          ? `${gbit(at.bandwidth)}, ${latency}: ${texts.not_simulated}`
          : fill(texts.interpolated, { ...where, low: gbit(low), high: gbit(high) });
      part("first").replaceChildren(first, " ", element("small", "", [next, point?.sure[by.name]].filter(Boolean).join(" ")));
      part("state").textContent = state;
      part("state").classList.toggle("between", !point);
      for (const [name, slider] of Object.entries(sliders)) {
        if (!slider) continue;
        slider.setAttribute("aria-valuetext", fill(texts.valuetext, where));
        part(name).textContent = where[name];
      }
      // Read aloud when the first one changes, not at every step of the slider, which says where it stands itself.
      const told = `${best?.label.name}|${by.name}`;
      if (said && said !== told) part("live").textContent = fill(texts.announce, { first, state });
      said = told;
      table(order, at, by);
      curves(at);
    };

    if (sliders.bandwidth) {
      sliders.bandwidth.max = STEPS * (bandwidths.length - 1);
      sliders.bandwidth.value = STEPS * Math.floor((bandwidths.length - 1) / 2);
      document.getElementById(`${data.name}-ticks`).append(
        ...bandwidths.map((_, i) => Object.assign(element("option"), { value: STEPS * i })));
    }
    if (sliders.latency) {
      sliders.latency.max = latencies.length - 1;
      sliders.latency.value = 0;
    }
    // A link like #network-0=1,0.001 (Gbit/s, s) puts the sliders there, the nearest they can be.
    const asked = location.hash.match(/^#(network-\d+)=([\d.e+-]+),([\d.e+-]+)$/);
    if (asked && asked[1] === data.name) {
      const nearest = (values, wanted) =>
        values.reduce((best, value, i) => (Math.abs(value - wanted) < Math.abs(values[best] - wanted) ? i : best), 0);
      const positions = Array.from({ length: STEPS * (bandwidths.length - 1) + 1 }, (_, i) => Math.log(bandwidthAt(i)));
      if (sliders.bandwidth) sliders.bandwidth.value = nearest(positions, Math.log(Number(asked[2])));
      if (sliders.latency) sliders.latency.value = nearest(latencies, Number(asked[3]));
      panel.open = true;
      panel.scrollIntoView();
    }
    panel.addEventListener("input", show);
    part("controls").hidden = false;
    show();
    new ResizeObserver(() => curves(place())).observe(part("curves"));
  }

  // Round values for the ticks of an axis: about so many.
  function nice(low, high, log, many) {
    if (log) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
        for (const factor of high / low < 30 ? [1, 2, 5] : [1]) {
          const tick = Number(`${factor}e${power}`);
          if (tick >= low && tick <= high) found.push(tick);
        }
      }
      return found;
    }
    const step = (high - low) / Math.max(many, 2);
    const power = 10 ** Math.floor(Math.log10(step));
    const round = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= step);
    const found = [];
    for (let i = Math.ceil(low / round); i * round <= high * (1 + 1e-9); i += 1) found.push(Number((i * round).toPrecision(6)));
    return found;
  }
})();
