package bus

import (
	"errors"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/incident"
)

func TestEncodeName(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain names stay", "eu-1", "eu-1"},
		{"case is kept apart", "EU-1", "_45_55-1"},
		{"separators of subjects are escaped", "a.b c*>", "a_2eb_20c_2a_3e"},
		{"the escape itself is escaped", "a_b", "a_5fb"},
		{"bytes are not required to be text", "\xff\x00", "_ff_00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := EncodeName(tt.in)
			if err != nil || got != tt.want {
				t.Errorf("got %q %v, want %q", got, err, tt.want)
			}
			if back, err := DecodeName(got); err != nil || back != tt.in {
				t.Errorf("back %q %v", back, err)
			}
		})
	}
	for _, in := range []string{"", strings.Repeat("a", 201), strings.Repeat("ü", 40)} {
		if _, err := EncodeName(in); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("%q: %v, want ErrInvalid", in, err)
		}
	}
	for _, in := range []string{"", "_", "_4", "_zz", "_61", "A", "a.b", "_AA"} {
		if got, err := DecodeName(in); !errors.Is(err, incident.ErrInvalid) {
			t.Errorf("decode %q: %q %v, want ErrInvalid", in, got, err)
		}
	}
}

func FuzzDecodeName(f *testing.F) {
	for _, s := range []string{"eu-1", "_45u", "_", "_zz", "__", "a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := DecodeName(s)
		if err == nil && len(s) <= maxToken {
			if back, err := EncodeName(name); err != nil || back != s {
				t.Fatalf("%q decodes to %q, which encodes to %q (%v)", s, name, back, err)
			}
		}
		if token, err := EncodeName(s); err == nil {
			if back, err := DecodeName(token); err != nil || back != s {
				t.Fatalf("%q encodes to %q, which decodes to %q (%v)", s, token, back, err)
			}
			if strings.ContainsAny(token, ".*> \x00/") {
				t.Fatalf("%q encodes to the unsafe %q", s, token)
			}
		}
	})
}

func TestPartitionOf(t *testing.T) {
	seen := map[int]int{}
	for i := range 1000 {
		p := PartitionOf(incident.ClusterName(strings.Repeat("c", i%7+1)+string(rune('a'+i%26))), 4)
		if p < 0 || p > 3 {
			t.Fatal(p)
		}
		seen[p]++
	}
	if len(seen) != 4 {
		t.Errorf("partitions used: %v", seen)
	}
	if PartitionOf("x", 0) != 0 || PartitionOf("x", 1) != 0 {
		t.Error("one partition is partition 0")
	}
}

func FuzzDecodeKey(f *testing.F) {
	for _, s := range []string{"eu-1/kube", "/", "_2f", "a.b", "_"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if key, err := decodeKey(s); err == nil && len(key) <= 1024 {
			if back, err := encodeKey(key); err != nil || back != s {
				t.Fatalf("%q decodes to %q, which encodes to %q (%v)", s, key, back, err)
			}
		}
		if token, err := encodeKey(s); err == nil {
			if back, err := decodeKey(token); err != nil || back != s {
				t.Fatalf("%q encodes to %q, which decodes to %q (%v)", s, token, back, err)
			}
		}
	})
}
