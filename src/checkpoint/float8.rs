//! In: tensors of eight-bit floats, and the scales beside them. Out: f32. Where they lie is left to
//! `safetensors_file`.

use safetensors::Dtype;

/// The values of numbers of one byte each; `None` where `format` is no eight-bit float that is read here.
///
/// `F8_E4M3` is PyTorch's `float8_e4m3fn` (no infinity, largest 448), `F8_E5M2` its `float8_e5m2`.
pub(crate) fn values(bytes: &[u8], format: Dtype) -> Option<Vec<f32>> {
    let table: Vec<f32> = match format {
        Dtype::F8_E4M3 => (0..=u8::MAX).map(e4m3).collect(),
        Dtype::F8_E5M2 => (0..=u8::MAX).map(e5m2).collect(),
        _ => return None,
    };
    Some(bytes.iter().map(|&byte| table[usize::from(byte)]).collect())
}

fn e4m3(byte: u8) -> f32 {
    if byte & 0x7f == 0x7f { f32::NAN } else { finite(byte, 3, 7) }
}

fn e5m2(byte: u8) -> f32 {
    match byte & 0x7f {
        0x7c => finite((byte & 0x80) | 0x3c, 2, 15) * f32::INFINITY,
        0x7d.. => f32::NAN,
        _ => finite(byte, 2, 15),
    }
}

/// A number with `fraction` bits behind an exponent that counts from `-bias`.
fn finite(byte: u8, fraction: u32, bias: i32) -> f32 {
    let exponent = i32::from((byte & 0x7f) >> fraction);
    let steps = f32::from(1_u8 << fraction);
    let part = f32::from(byte & ((1 << fraction) - 1)) / steps;
    let size = match exponent {
        0 => part * 2_f32.powi(1 - bias),
        _ => (1.0 + part) * 2_f32.powi(exponent - bias),
    };
    if byte & 0x80 == 0 { size } else { -size }
}

/// Whether a tensor of this name, without its module's, is a scale of other numbers or marks them as scaled.
pub(super) fn is_scale(own: &str) -> bool {
    matches!(own, "scale_weight" | "weight_scale" | "scale_input" | "input_scale" | "scaled_fp8")
}

/// What stands beside a tensor of scaled numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScaleLookup<'n> {
    /// Nothing that concerns it.
    Nothing,
    /// The tensor that it is multiplied by.
    Scale(&'n str),
    /// A tensor whose meaning for it is not known here.
    Unknown(&'n str),
}

/// Looks for the scale of the tensor `key` among the tensors of its file that follow `key`'s module in name order
/// (all that begin with the module's name, at least).
///
/// A scale is called `scale_weight` (ComfyUI) or `weight_scale`. The scales of inputs, `scale_input` and
/// `input_scale`, are for products of eight-bit numbers; where weights are widened first they do nothing.
pub(crate) fn find_scale<'n>(key: &str, others: impl Iterator<Item = &'n str>) -> ScaleLookup<'n> {
    let (module, own) = key.rsplit_once('.').unwrap_or(("", key));
    let Some(stem) = own.strip_suffix("weight").filter(|stem| !stem.contains("scale")) else {
        return ScaleLookup::Nothing;
    };
    let mut found = ScaleLookup::Nothing;
    for other in others {
        let rest = match module {
            "" => Some(other),
            module => other.strip_prefix(module).and_then(|rest| rest.strip_prefix('.')),
        };
        let Some(rest) = rest.filter(|rest| !rest.contains('.')) else { continue };
        let start = if stem.is_empty() { "weight" } else { stem };
        let about_scales = rest.contains("scale")
            && (rest.starts_with(start) || (stem.is_empty() && rest.starts_with("scale")));
        match (stem, rest) {
            ("", "scale_input" | "input_scale") => {}
            ("", "scale_weight" | "weight_scale") if found == ScaleLookup::Nothing => {
                found = ScaleLookup::Scale(other);
            }
            _ if about_scales || rest == "comfy_quant" => return ScaleLookup::Unknown(other),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_found_beside_their_tensor_alone() {
        let found = |key, others: &[&'static str]| find_scale(key, others.iter().copied());
        assert_eq!(found("a.b.weight", &["a.b.bias", "a.b.scale_input"]), ScaleLookup::Nothing);
        assert_eq!(
            found("a.b.weight", &["a.b.weight", "a.b.weight_scale"]),
            ScaleLookup::Scale("a.b.weight_scale")
        );
        assert_eq!(
            found("a.b.weight", &["a.b.scale_weight", "a.b.c.scale_weight", "a.bc.weight_scale"]),
            ScaleLookup::Scale("a.b.scale_weight")
        );
        for unknown in ["a.b.weight_scale_inv", "a.b.weight_scale_2", "a.b.comfy_quant"] {
            assert_eq!(found("a.b.weight", &[unknown]), ScaleLookup::Unknown(unknown));
        }
        assert_eq!(
            found("a.b.weight", &["a.b.scale_weight", "a.b.weight_scale"]),
            ScaleLookup::Unknown("a.b.weight_scale")
        );
        assert_eq!(
            found("a.in_proj_weight", &["a.in_proj_weight_scale"]),
            ScaleLookup::Unknown("a.in_proj_weight_scale")
        );
        assert_eq!(found("a.b.bias", &["a.b.scale_weight"]), ScaleLookup::Nothing);
        assert_eq!(found("logits.weight", &["logits.weight", "logit_scale"]), ScaleLookup::Nothing);
    }
}
