"use strict";
(() => {
  const { charts } = JSON.parse(document.getElementById("charts").textContent);
  const font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: "#1f2328" };
  const axis = { gridcolor: "#ecebe6", linecolor: "#c9c8c2", ticks: "outside", tickcolor: "#c9c8c2", zeroline: false, automargin: true };
  const plain = {
    font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 70, r: 20, t: 20, b: 55 },
    hovermode: "closest", hoverlabel: { align: "left", bgcolor: "#ffffff", bordercolor: "#c9c8c2", font },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: "#c2c1bb", activecolor: "#2a788e" },
    legend: { itemclick: false, itemdoubleclick: false, font: { ...font, size: 12 }, tracegroupgap: 8 },
  };
  const options = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const places = charts.map((chart, k) => {
    const place = document.getElementById(`chart-${k}`);
    const layout = { ...plain, ...chart.layout };
    for (const name of ["xaxis", "yaxis"]) layout[name] = { ...axis, ...chart.layout[name] };
    return Plotly.newPlot(place, chart.data, layout, options);
  });

  const buttons = [...document.querySelectorAll(".filter button[data-group]")];
  const rows = [...document.querySelectorAll("tr[data-group]")];
  const counted = document.getElementById("counted");

  function show() {
    const hidden = new Set(buttons.filter((b) => b.getAttribute("aria-pressed") === "false").map((b) => b.dataset.group));
    charts.forEach((chart, k) => {
      const visible = chart.data.map((trace) => !hidden.has(trace.meta));
      Plotly.restyle(`chart-${k}`, { visible });
    });
    for (const row of rows) row.classList.toggle("hidden", hidden.has(row.dataset.group));
    if (counted) counted.textContent = String(rows.filter((row) => !row.classList.contains("hidden")).length);
  }

  // A click shows this model alone, as does another click on the only one shown bring all back; with a modifier it toggles one.
  function press(button, one) {
    if (one) button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") === "false"));
    else {
      const alone = buttons.every((b) => (b.getAttribute("aria-pressed") === "true") === (b === button));
      for (const b of buttons) b.setAttribute("aria-pressed", String(alone || b === button));
    }
    show();
  }
  for (const button of buttons) button.addEventListener("click", (e) => press(button, e.shiftKey || e.ctrlKey || e.metaKey));
  const all = document.getElementById("all");
  if (all) all.addEventListener("click", () => { for (const b of buttons) b.setAttribute("aria-pressed", "true"); show(); });

  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("th").forEach((head, k) => {
      const sort = () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => row.cells[k].dataset.value ?? row.cells[k].textContent;
        const number = head.classList.contains("number");
        const compare = (a, b) => number
          ? (value(a) === "") - (value(b) === "") || (up ? 1 : -1) * (value(a) - value(b))
          : (up ? 1 : -1) * value(a).localeCompare(value(b), undefined, { numeric: true });
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort(compare));
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (e) => { if (e.key === "Enter") sort(); });
    });
  }
  Promise.all(places).then(() => document.body.classList.add("ready"));
})();
