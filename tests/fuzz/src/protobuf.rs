//! Mutation of protobuf messages: of one field at a time, with the lengths around it put right. Without it nearly every
//! mutation is no message at all.

use libfuzzer_sys::fuzzer_mutate;

/// Deeper than any message of ours.
const MAX_DEPTH: usize = 8;

/// A field: its number and wire type, and what it holds.
#[derive(Clone)]
struct Field {
    tag: u64,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Number(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

/// Mutates an input that is one byte and a message, and returns its new length. For `fuzz_mutator!`.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let whole = seed.is_multiple_of(4);
    let Some(mut fields) = (size > 1 && !whole).then(|| parse(&data[1..size], MAX_DEPTH)).flatten() else {
        return fuzzer_mutate(data, size, max_size);
    };
    let count = count(&fields);
    if count == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    change(&mut fields, &mut (seed as usize / 64 % count), seed / 4 % 16, max_size);
    let mut message = Vec::new();
    write(&fields, &mut message);
    if 1 + message.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[1..=message.len()].copy_from_slice(&message);
    1 + message.len()
}

fn count(fields: &[Field]) -> usize {
    let within = |field: &Field| match &field.value {
        Value::Message(fields) => count(fields),
        _ => 0,
    };
    fields.iter().map(|field| 1 + within(field)).sum()
}

/// Changes the field that is `left` fields further on, in the order in which they are written.
fn change(fields: &mut Vec<Field>, left: &mut usize, how: u32, max_size: usize) -> bool {
    for at in 0..fields.len() {
        if *left == 0 {
            match how {
                0 => drop(fields.remove(at)),
                1 => fields.push(fields[at].clone()),
                _ => replace(&mut fields[at].value, max_size),
            }
            return true;
        }
        *left -= 1;
        if let Value::Message(inner) = &mut fields[at].value
            && change(inner, left, how, max_size)
        {
            return true;
        }
    }
    false
}

fn replace(value: &mut Value, max_size: usize) {
    match value {
        Value::Number(number) => {
            let mut bytes = number.to_le_bytes();
            fuzzer_mutate(&mut bytes, 8, 8);
            *number = u64::from_le_bytes(bytes);
        }
        Value::Fixed(bytes) => {
            let size = bytes.len();
            fuzzer_mutate(bytes, size, size);
        }
        Value::Bytes(bytes) => *bytes = mutated(bytes, max_size),
        Value::Message(fields) => {
            let mut bytes = Vec::new();
            write(fields, &mut bytes);
            *value = Value::Bytes(mutated(&bytes, max_size));
        }
    }
}

fn mutated(bytes: &[u8], max_size: usize) -> Vec<u8> {
    let mut buffer = bytes.to_vec();
    buffer.resize((bytes.len() + 64).min(max_size.max(bytes.len())), 0);
    let limit = buffer.len();
    let size = fuzzer_mutate(&mut buffer, bytes.len(), limit);
    buffer.truncate(size);
    buffer
}

fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = number(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Number(number(&mut bytes)?),
            1 => Value::Fixed(bytes.split_off(..8)?.to_vec()),
            5 => Value::Fixed(bytes.split_off(..4)?.to_vec()),
            2 => {
                let length = usize::try_from(number(&mut bytes)?).ok()?;
                let inner = bytes.split_off(..length)?;
                match (depth > 0 && !inner.is_empty()).then(|| parse(inner, depth - 1)).flatten() {
                    Some(fields) => Value::Message(fields),
                    None => Value::Bytes(inner.to_vec()),
                }
            }
            _ => return None,
        };
        fields.push(Field { tag, value });
    }
    Some(fields)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn write(fields: &[Field], to: &mut Vec<u8>) {
    for Field { tag, value } in fields {
        write_number(*tag, to);
        match value {
            Value::Number(number) => write_number(*number, to),
            Value::Fixed(bytes) => to.extend(bytes),
            Value::Bytes(bytes) => {
                write_number(bytes.len() as u64, to);
                to.extend(bytes);
            }
            Value::Message(fields) => {
                let mut inner = Vec::new();
                write(fields, &mut inner);
                write_number(inner.len() as u64, to);
                to.extend(inner);
            }
        }
    }
}

fn write_number(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}
