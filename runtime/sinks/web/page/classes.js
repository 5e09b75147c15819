// The filter of classes: a row for each class that was ever found.

export class ClassFilter {
  #rows = new Map(); // name -> {row, box, number}
  #list;
  #onChange;

  constructor(list, onChange) {
    this.#list = list;
    this.#onChange = onChange;
  }

  shows(name) {
    return this.#rows.get(name)?.box.checked ?? true;
  }

  /** Add the classes of items that are new. */
  meet(items) {
    for (const { class_name: name, colour } of items) if (!this.#rows.has(name)) this.#add(name, colour);
  }

  setAll(checked) {
    for (const { box } of this.#rows.values()) box.checked = checked;
    this.#onChange();
  }

  /** Show how many there are of each class, or how much: a map from names to texts. */
  count(texts) {
    for (const [name, { row, number }] of this.#rows) {
      const text = texts.get(name) ?? "";
      if (number.textContent !== text) number.textContent = text;
      row.classList.toggle("absent", text === "");
    }
  }

  #add(name, colour) {
    const row = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    const words = Object.assign(document.createElement("span"), { className: "class-name", textContent: name });
    const number = Object.assign(document.createElement("span"), { className: "number" });
    box.style.setProperty("--colour", colour);
    box.addEventListener("change", this.#onChange);
    row.append(box, words, number);
    row.dataset.name = name;
    this.#list.querySelector("p")?.remove();
    const order = new Intl.Collator("en", { numeric: true });
    const after = [...this.#list.children].find((other) => order.compare(other.dataset.name, name) > 0);
    this.#list.insertBefore(row, after ?? null);
    this.#rows.set(name, { row, box, number });
  }
}
