//! What stands at the beginning of a GGUF file, which is all that the plugin reads of one.

/// The head of a model of an architecture, with a context of 512 and 2 layers.
pub fn head(architecture: &str) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    let put = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(8_u64.to_le_bytes());
    put(&mut bytes, "general.architecture");
    bytes.extend(8_u32.to_le_bytes());
    put(&mut bytes, architecture);
    for (name, number) in [
        ("context_length", 512_u32),
        ("block_count", 2),
        ("embedding_length", 64),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ] {
        put(&mut bytes, &format!("{architecture}.{name}"));
        bytes.extend(4_u32.to_le_bytes());
        bytes.extend(number.to_le_bytes());
    }
    put(&mut bytes, "general.alignment");
    bytes.extend(7_u32.to_le_bytes());
    bytes.push(1);
    put(&mut bytes, "tokenizer.ggml.tokens");
    bytes.extend([9_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat());
    bytes.extend(3_u64.to_le_bytes());
    for token in ["a", "bc", ""] {
        put(&mut bytes, token);
    }
    bytes
}
