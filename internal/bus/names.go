package bus

import (
	"strings"

	"github.com/tocsin-io/tocsin/incident"
)

// maxToken bounds an encoded name: JetStream uses stream names, with a prefix, as folder names,
// which are limited to 255 bytes.
const maxToken = 200

const hexDigits = "0123456789abcdef"

// EncodeName turns any name into a token of [a-z0-9_-]: lower-case letters, digits and '-' stay,
// every other byte becomes "_xx" (hex). It is reversible and collision-free, also on file
// systems that ignore case. Empty names and names longer than 200 bytes when encoded are refused
// with ErrInvalid.
func EncodeName(s string) (string, error) {
	if s == "" {
		return "", incident.Invalidf("name is empty")
	}
	out := encode(s, "")
	if len(out) > maxToken {
		return "", incident.Invalidf("name %q is %d bytes long when encoded, limit %d: choose a shorter one", incident.Clip(s, 40), len(out), maxToken)
	}
	return out, nil
}

// DecodeName undoes EncodeName. A token that EncodeName cannot have written is refused with
// ErrInvalid.
func DecodeName(token string) (string, error) { return decode(token, "") }

// encode escapes every byte but lower-case letters, digits, '-' and those in keep.
func encode(s, keep string) string {
	var b strings.Builder
	b.Grow(len(s) + 8)
	for i := range len(s) {
		c := s[i]
		if plain(c) || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('_')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

func plain(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' }

func decode(token, keep string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c != '_' {
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(token) {
			return "", incident.Invalidf("token %q is cut off", incident.Clip(token, 40))
		}
		hi, lo := strings.IndexByte(hexDigits, token[i+1]), strings.IndexByte(hexDigits, token[i+2])
		if hi < 0 || lo < 0 {
			return "", incident.Invalidf("token %q holds a bad escape", incident.Clip(token, 40))
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	if s := b.String(); s != "" && encode(s, keep) == token {
		return s, nil
	}
	return "", incident.Invalidf("token %q is not an encoded name", incident.Clip(token, 40))
}

// Keys of buckets keep '/', so that they read like paths.
const keyKeep = "/"

func encodeKey(key string) (string, error) {
	if key == "" {
		return "", incident.Invalidf("key is empty")
	}
	if len(key) > 1024 {
		return "", incident.Invalidf("key %q is %d bytes long, limit 1024", incident.Clip(key, 40), len(key))
	}
	return encode(key, keyKeep), nil
}

func decodeKey(token string) (string, error) { return decode(token, keyKeep) }
