/* Charts: options come from data in the page and the tokens of the style sheet. */
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function tip(rows, head) {
  const box = document.createElement("div"), title = document.createElement("b");
  box.className = "tip";
  title.textContent = head;
  box.append(title);
  for (const [colour, name, value] of rows) {
    const line = document.createElement("div"), dot = document.createElement("span");
    const label = document.createElement("span"), number = document.createElement("span");
    dot.className = "swatch";
    dot.style.background = colour;
    label.textContent = name;
    number.textContent = value;
    number.className = "num";
    line.append(dot, label, number);
    box.append(line);
  }
  return box;
}

function over(labels, written, told, series, least = 0) {
  const label = { color: css("--ink-3"), fontSize: 12, hideOverlap: true };
  return {
    animationDuration: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 250,
    textStyle: { fontFamily: css("--font"), color: css("--ink-2") },
    tooltip: {
      trigger: "axis", confine: true, backgroundColor: css("--surface"), borderColor: css("--line-2"), padding: [8, 12],
      textStyle: { color: css("--ink"), fontSize: 12.5 }, axisPointer: { type: "line", lineStyle: { color: css("--line-2") } },
      formatter: (points) => tip(told(points), points[0].name),
    },
    grid: { left: 8, right: 8, top: 10, bottom: 44, containLabel: true },
    legend: { bottom: 0, left: 0, type: "scroll", icon: "roundRect", itemWidth: 10, itemHeight: 10, itemGap: 12, textStyle: { color: css("--ink-2"), fontSize: 12 } },
    xAxis: { type: "category", data: labels, axisLine: { lineStyle: { color: css("--line-2") } }, axisTick: { show: false }, axisLabel: label },
    yAxis: { type: "value", min: 0, max: ({ max }) => (max < least ? least : null), axisLabel: { ...label, formatter: written }, splitLine: { lineStyle: { color: css("--line") } } },
    series,
  };
}

const kinds = {
  stacked({ labels, rows, sign, total }) {
    const money = (n) => sign + n.toLocaleString("en", n && n < 1 ? { maximumSignificantDigits: 4 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 });
    return over(
      labels,
      (n) => sign + n.toLocaleString("en", { maximumSignificantDigits: 4 }),
      (points) => [...points.map((p) => [p.color, p.seriesName, money(p.value)]).reverse(), ["transparent", total, money(points.reduce((sum, p) => sum + p.value, 0))]],
      rows.map(({ name, other, values }, i) => ({ name, type: "bar", stack: "all", barMaxWidth: 26, data: values, itemStyle: { color: css(`--c${other ? 7 : i + 1}`) }, emphasis: { focus: "series" } })),
    );
  },
  lines({ labels, rows, goal, told }) {
    const wait = (n) => (n == null ? "—" : n < 1000 ? `${Math.round(n)} ms` : `${(n / 1000).toPrecision(3)} s`);
    return over(
      labels, wait,
      (points) => points.map((p) => [p.color, p.seriesName, wait(p.value)]),
      rows.map(({ name, values }, i) => ({ name, type: "line", symbolSize: 4, showSymbol: values.filter((n) => n != null).length < 6, connectNulls: false, data: values, lineStyle: { width: 1.8 }, color: css(`--${name}`), markLine: i ? undefined : { silent: true, symbol: "none", data: [{ yAxis: goal }], lineStyle: { type: "dashed", color: css("--warn") }, label: { position: "insideEndTop", formatter: told, color: css("--warn"), fontSize: 12 } } })),
      goal * 1.25,
    );
  },
};

async function draw(frame) {
  const echarts = await import(frame.dataset.module), kind = frame.dataset.chart;
  const data = JSON.parse(document.querySelector(`[data-for="${kind}"]`).textContent);
  const chart = echarts.init(frame, null, { renderer: "canvas" });
  const show = () => chart.setOption(kinds[kind](data), true);
  show();
  new ResizeObserver(() => chart.resize()).observe(frame);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
}

const drawn = new WeakSet();
function drawAll() {
  for (const frame of document.querySelectorAll("[data-chart]")) {
    if (!drawn.has(frame)) { drawn.add(frame); draw(frame); }
  }
}
drawAll();
document.addEventListener("htmx:after:swap", drawAll);
