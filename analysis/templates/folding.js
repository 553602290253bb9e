// On paper what is folded away is shown; afterwards it is folded again.
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  unfolded.forEach(details => details.open = true);
});
addEventListener("afterprint", () => unfolded.forEach(details => details.open = false));
// A link to something that is folded away unfolds it.
const unfold = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let place = target; place; place = place.parentElement) if (place.tagName === "DETAILS") place.open = true;
};
addEventListener("hashchange", unfold);
unfold();
