// The elements of the page by id, and the line for error messages.

export const element = Object.fromEntries([...document.querySelectorAll("[id]")].map((each) => [each.id, each]));
export const listen = (name, event, act) => element[name].addEventListener(event, act);

/** Show an error, in one line. */
export function fault(error) {
  element.fault.textContent = String(error?.message ?? error).split("\n")[0];
  element.fault.hidden = false;
  element.loading.hidden = true;
  if (document.body.dataset.state === "loading") document.body.dataset.state = "failed";
}

export const settle = () => (element.fault.hidden = true);
