use minijinja::value::Value;

use super::*;
use crate::data::record::Message;

/// As SmolLM2 and Qwen have it.
const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' \
     + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
     {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// As Llama 2 and Mistral have it: roles alternate, an answer has no header.
const INST: &str = "{{ bos_token }}{% for message in messages %}\
     {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
     {{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}\
     {% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}\
     {% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

fn template(text: &str) -> Template {
    let specials = [("bos_token", "<s>"), ("eos_token", "</s>")];
    Template::new(&TemplateSource::of_text(text, &specials), 1_700_000_000).unwrap()
}

fn chat(messages: &[(&str, &str)]) -> Chat {
    Chat {
        messages: messages
            .iter()
            .map(|(role, content)| Message::new(role, content))
            .collect(),
        ..Chat::default()
    }
}

fn rendered(text: &str) -> String {
    let chat = chat(&[("user", "hi")]);
    template(text).render(&chat, false).unwrap()
}

fn answers(text: &str, messages: &[(&str, &str)]) -> Vec<String> {
    let rendered = template(text).render_with_answers(&chat(messages)).unwrap();
    let places = rendered.answers.into_iter();
    places
        .map(|place| rendered.text[place].to_owned())
        .collect()
}

const TALK: [(&str, &str); 5] = [
    ("system", "Be brief."),
    ("user", "One?"),
    ("assistant", "1"),
    ("user", "Two?"),
    ("assistant", "2"),
];

#[test]
fn a_conversation_is_rendered_and_a_prompt_is_added_where_wanted() {
    let template = template(CHATML);
    let chat = chat(&TALK[1..2]);
    let text = "<|im_start|>user\nOne?<|im_end|>\n";
    assert_eq!(template.render(&chat, false).unwrap(), text);
    assert_eq!(
        template.render(&chat, true).unwrap(),
        format!("{text}<|im_start|>assistant\n")
    );
}

#[test]
fn answers_are_found_with_the_token_that_ends_them() {
    assert_eq!(answers(CHATML, &TALK), ["1<|im_end|>", "2<|im_end|>"]);
    assert_eq!(answers(INST, &TALK[1..]), ["1 </s>", "2 </s>"]);
}

#[test]
fn answers_are_found_where_a_template_drops_what_earlier_ones_thought() {
    // As Qwen 3 has it.
    let text = "{%- for message in messages %}{%- set content = message.content %}\
         {%- if message.role == 'assistant' and not loop.last and '</think>' in content %}\
         {%- set content = content.split('</think>')[-1] %}{%- endif %}\
         {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}{%- endfor %}\
         {%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";
    let talk = [
        ("user", "One?"),
        ("assistant", "<think>hm</think>1"),
        ("user", "Two?"),
        ("assistant", "<think>so</think>2"),
    ];
    assert_eq!(
        answers(text, &talk),
        ["1<|im_end|>", "<think>so</think>2<|im_end|>"]
    );
}

#[test]
fn answers_are_found_where_a_template_refuses_part_of_a_conversation() {
    let text = "{% if messages[-1].role != 'assistant' %}{{ raise_exception('no') }}{% endif %}\
         {% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{{ eos_token }}\n\n\
         {% endfor %}";
    assert_eq!(
        answers(text, &TALK),
        ["1</s>", "2</s>"],
        "{:?}",
        template(text).render_with_answers(&chat(&TALK))
    );
}

#[test]
fn an_answer_that_is_the_same_as_the_question_is_told_apart() {
    let talk = [("user", "ping"), ("assistant", "ping")];
    let rendered = template(CHATML).render_with_answers(&chat(&talk)).unwrap();
    assert_eq!(rendered.answers.len(), 1);
    assert_eq!(
        &rendered.text[..rendered.answers[0].start],
        "<|im_start|>user\nping<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn an_answer_that_a_template_leaves_out_is_an_error() {
    let text =
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
    let fault = template(text).render_with_answers(&chat(&TALK[1..3]));
    assert_eq!(fault, Err(LineFault::Answer { answer: 2 }));
}

#[test]
fn what_a_template_raises_is_told_with_its_line() {
    let fault = template(INST).render(&chat(&TALK), false).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "the chat template refuses this conversation: Conversation roles must alternate \
         user/assistant (line 1 of the template)"
    );
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let text = "{% for i in range(100000) %}{% for j in range(100000) %}{{ j }}{% endfor %}\
         {% endfor %}";
    let fault = template(text).render(&chat(&TALK), false).unwrap_err();
    assert!(
        fault.to_string().contains("out of fuel") || fault.to_string().contains("fuel"),
        "{fault}"
    );
}

#[test]
fn a_template_with_a_syntax_error_is_refused_with_its_line() {
    let source = TemplateSource::of_text("a\n{% if %}", &[]);
    let error = Template::new(&source, 0).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn blocks_are_trimmed_as_transformers_trims_them() {
    assert_eq!(
        rendered("a\n  {% if true %}\n  b\n  {% endif %}\nc\n"),
        "a\n  b\nc"
    );
}

#[test]
fn constants_and_methods_are_those_of_python() {
    assert_eq!(
        rendered("{{ true }} {{ none }} {{ missing }}"),
        "True None "
    );
    assert_eq!(
        rendered("{{ ' a b '.strip().split(' ')[-1] }}{{ messages[0].get('x', 'y') }}"),
        "by"
    );
    assert_eq!(
        rendered("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
        "01"
    );
    assert_eq!(
        rendered(
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}"
        ),
        "1"
    );
}

#[test]
fn the_tags_generation_only_mark() {
    assert_eq!(
        rendered("a {%- generation -%} b {% endgeneration %}c"),
        "ab c"
    );
}

#[test]
fn a_conversation_may_have_variables_that_its_template_knows() {
    let template = template("{% if enable_thinking is false %}short{% endif %}{{ eos_token }}");
    let line = r#"{"messages": [{"role": "assistant", "content": "a"}],
        "variables": {"enable_thinking": false, "messages": 1, "eos_token": "!"}}"#;
    let chat: Chat = serde_json::from_str(line).unwrap();
    assert_eq!(template.render(&chat, false).unwrap(), "short!");
}

#[test]
fn the_time_counts_only_where_it_is_asked_for() {
    let digest = |text: &str, time: i64| {
        let source = TemplateSource::of_text(text, &[]);
        Template::new(&source, time).unwrap().digest()
    };
    assert_eq!(digest("a", 1), digest("a", 2));
    assert_ne!(digest("a", 1), digest("b", 1));
    let now = "{{ strftime_now('%Y') }}";
    assert_ne!(digest(now, 1), digest(now, 2));
}

#[test]
fn the_time_is_the_one_that_was_given() {
    assert_eq!(rendered("{{ strftime_now('%d %b %Y') }}"), "14 Nov 2023");
}

#[test]
fn json_is_written_as_python_writes_it() {
    // Printed by `json.dumps` of Python 3.13 with the same arguments.
    let with = |filter: &str| {
        let tools: Value = serde_json::from_str(
            r#"[{"z": [1, 2.5, null, true], "a": "é<'\"", "e": {}, "l": []}]"#,
        )
        .unwrap();
        let chat = Chat {
            tools: Some(tools),
            ..Chat::default()
        };
        template(&format!("{{{{ tools | {filter} }}}}"))
            .render(&chat, false)
            .unwrap()
    };
    assert_eq!(
        with("tojson"),
        r#"[{"z": [1, 2.5, null, true], "a": "é<'\"", "e": {}, "l": []}]"#
    );
    assert_eq!(
        with("tojson(ensure_ascii=true, sort_keys=true)"),
        r#"[{"a": "\u00e9<'\"", "e": {}, "l": [], "z": [1, 2.5, null, true]}]"#
    );
    assert_eq!(
        with("tojson(separators=(',', ':'))"),
        r#"[{"z":[1,2.5,null,true],"a":"é<'\"","e":{},"l":[]}]"#
    );
    assert_eq!(
        with("tojson(indent=2)"),
        "[\n  {\n    \"z\": [\n      1,\n      2.5,\n      null,\n      true\n    ],\n    \
         \"a\": \"é<'\\\"\",\n    \"e\": {},\n    \"l\": []\n  }\n]"
    );
}

#[test]
fn a_model_says_its_template_in_one_of_three_ways() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tokenizer_config.json");
    assert_eq!(TemplateSource::of_model(dir.path()).unwrap(), None);

    std::fs::write(
        &config,
        r#"{"eos_token": {"content": "</s>"}, "bos_token": "<s>", "pad_token": null,
            "chat_template": "{{ eos_token }}"}"#,
    )
    .unwrap();
    let source = TemplateSource::of_model(dir.path()).unwrap().unwrap();
    assert_eq!(source.templates["default"], "{{ eos_token }}");
    assert_eq!(source.specials["eos_token"], "</s>");
    let ends = end_tokens(dir.path()).unwrap();
    assert_eq!(
        (ends.begin.as_deref(), ends.end.as_deref()),
        (Some("<s>"), Some("</s>"))
    );

    std::fs::write(
        &config,
        r#"{"chat_template": [{"name": "default", "template": "d"},
            {"name": "tool_use", "template": "t"}]}"#,
    )
    .unwrap();
    let source = TemplateSource::of_model(dir.path()).unwrap().unwrap();
    let template = Template::new(&source, 0).unwrap();
    let mut chat = chat(&TALK);
    assert_eq!(template.render(&chat, false).unwrap(), "d");
    chat.tools = Some(Value::from(Vec::<Value>::new()));
    assert_eq!(template.render(&chat, false).unwrap(), "t");

    std::fs::write(dir.path().join("chat_template.jinja"), "j").unwrap();
    let source = TemplateSource::of_model(dir.path()).unwrap().unwrap();
    assert_eq!(source.templates["default"], "j");

    std::fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    std::fs::write(&config, r#"{"chat_template": 3}"#).unwrap();
    let error = TemplateSource::of_model(dir.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tokenizer_config.json: `chat_template` is neither"),
        "{error}"
    );
}
