// The chat window's words.
export const WORDS = {
  en: {
    title: "Support chat", assistant: "Virtual assistant", support: "Support", waiting: "Waiting for a person", personKind: "From our team", you: "You", ai: "assistant",
    hello: "Hello! Ask anything about our product. I am a virtual assistant; a person takes over where I cannot help.",
    placeholder: "Write a message…", send: "Send", close: "Close the chat", askPerson: "Talk to a person", personWish: "I want to talk to a person",
    offline: "No connection. Your messages are kept and will be sent.", sending: "sending…", failed: "Not sent: {why}",
    helped: "Did this help?", yes: "Yes", no: "No", thanks: "Thank you!", sorry: "Thank you. Write what is missing, or ask for a person.",
    typing: "Looking for the answer", copy: "Copy", copied: "Copied", tooFast: "Too many messages at once. A moment, please.", busy: "Many are asking right now; trying again…",
  },
  ru: {
    title: "Чат поддержки", assistant: "Виртуальный помощник", support: "Поддержка", waiting: "Ждём человека", personKind: "Сотрудник поддержки", you: "Вы", ai: "помощник",
    hello: "Здравствуйте! Спросите что угодно о нашем продукте. Я виртуальный помощник; где не справлюсь, ответит человек.",
    placeholder: "Напишите сообщение…", send: "Отправить", close: "Закрыть чат", askPerson: "Позвать человека", personWish: "Хочу поговорить с человеком",
    offline: "Нет связи. Ваши сообщения сохранены и будут отправлены.", sending: "отправляется…", failed: "Не отправлено: {why}",
    helped: "Это помогло?", yes: "Да", no: "Нет", thanks: "Спасибо!", sorry: "Спасибо. Напишите, чего не хватает, или позовите человека.",
    typing: "Ищу ответ", copy: "Копировать", copied: "Скопировано", tooFast: "Слишком много сообщений подряд. Одну минуту.", busy: "Сейчас много вопросов; пробуем ещё раз…",
  },
};
