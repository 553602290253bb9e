// A table or figure that is wider than its place says that it scrolls.
const observer = new ResizeObserver(entries => requestAnimationFrame(() => {
  for (const { target } of entries) target.classList.toggle("scrolls", target.scrollWidth > target.clientWidth + 1);
}));
document.querySelectorAll(".wide").forEach(place => observer.observe(place));
