"use strict";
// What every page does: draw charts, sort tables, and say where a table is wider than the screen.
const isoflop = (() => {
  const font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: "#1f2328" };
  const axis = { gridcolor: "#ecebe6", linecolor: "#c9c8c2", ticks: "outside", tickcolor: "#c9c8c2", zeroline: false, automargin: true };
  const plain = {
    font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 70, r: 20, t: 20, b: 55 },
    hovermode: "closest", hoverlabel: { align: "left", bgcolor: "#ffffff", bordercolor: "#c9c8c2", font },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: "#c2c1bb", activecolor: "#2a788e" },
    legend: { itemclick: false, itemdoubleclick: false, font: { ...font, size: 12 }, tracegroupgap: 8 },
  };
  const options = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const narrow = matchMedia("(max-width: 640px)");

  function layoutOf(chart) {
    const layout = { ...plain, ...chart.layout };
    for (const name of ["xaxis", "yaxis"]) layout[name] = { ...axis, ...chart.layout[name] };
    if (narrow.matches) {  // the legend below the chart: beside it nothing would be left for the data
      layout.legend = { ...plain.legend, orientation: "h", x: 0, xanchor: "left", y: -0.22, yanchor: "top", font: { ...font, size: 11 } };
      layout.margin = { l: 50, r: 8, t: 34, b: 50 };
      layout.font = { ...font, size: 11 };
    }
    return layout;
  }

  const draw = (charts, name) => Promise.all(charts.map((chart, k) =>
    Plotly.react(document.getElementById(`${name}-${k}`), chart.data, layoutOf(chart), options)));

  function hints() {
    for (const frame of document.querySelectorAll(".scroll")) {
      const rest = frame.scrollWidth - frame.clientWidth - frame.scrollLeft;
      frame.classList.toggle("more", rest > 4);
    }
  }

  function sort(table, k, up) {
    const heads = table.querySelectorAll("th");
    for (const other of heads) other.removeAttribute("aria-sort");
    heads[k].setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[k].dataset.value ?? row.cells[k].textContent;
    const compare = heads[k].classList.contains("number")
      ? (a, b) => (value(a) === "") - (value(b) === "") || (up ? 1 : -1) * (value(a) - value(b))
      : (a, b) => (up ? 1 : -1) * value(a).localeCompare(value(b), undefined, { numeric: true });
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  }

  function sortable(table, sorted = () => {}) {
    table.querySelectorAll("th").forEach((head, k) => {
      const press = () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        sort(table, k, up);
        sorted(k, up);
      };
      head.addEventListener("click", press);
      head.addEventListener("keydown", (e) => { if (e.key === "Enter") press(); });
    });
  }

  addEventListener("resize", hints);
  document.addEventListener("scroll", hints, { capture: true, passive: true });
  return { draw, hints, sort, sortable };
})();
