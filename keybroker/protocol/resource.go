package protocol

import (
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// Limits on names and lists (docs/protocol.md 4.2).
const (
	MaxResources     = 16  // resources in one exchange
	MaxClasses       = 16  // resource classes in M1
	MaxResourceBytes = 128 // one resource name
	maxVersions      = 8
	maxSuites        = 8
	maxKinds         = 8
	maxKindBytes     = 32
)

// ValidResource says whether a name may denote a resource: segments of
// [a-z0-9._-], each starting with a letter or digit, joined by single slashes,
// at most MaxResourceBytes long (docs/protocol.md 4.4). Names become parts of
// policies and store keys, so that "..", an empty segment or a look-alike
// letter must never reach those.
func ValidResource(name string) bool {
	if len(name) > MaxResourceBytes {
		return false
	}
	for segment := range strings.SplitSeq(name, "/") {
		if !validSegment(segment) {
			return false
		}
	}
	return true
}

func validSegment(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return s != ""
}

// Class returns the resource's class: the first segment of its name.
func Class(resource string) string {
	class, _, _ := strings.Cut(resource, "/")
	return class
}

// ForServices says whether a resource is of one of the classes "secrets" and "volumes": what is
// released under such a name, the agent hands on to other services of its guest. No grant of it
// carries a role, so it makes nobody a server of models or a member of a round (docs/protocol.md 15).
func ForServices(resource string) bool {
	class := Class(resource)
	return class == "secrets" || class == "volumes"
}

// Classes returns the sorted classes of the resources, each once.
func Classes(resources []string) []string {
	classes := make([]string, 0, len(resources))
	for _, r := range resources {
		classes = append(classes, Class(r))
	}
	slices.Sort(classes)
	return slices.Compact(classes)
}

// validNames says whether the list is a sorted set of 1 to limit valid names.
func validNames(names []string, limit int, valid func(string) bool) bool {
	if len(names) == 0 || len(names) > limit {
		return false
	}
	for i, n := range names {
		if !valid(n) || i > 0 && names[i-1] >= n {
			return false
		}
	}
	return true
}

func addNames[T ~string](b *cryptobyte.Builder, names []T) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, n := range names {
			addString8(b, string(n))
		}
	})
}

func readNames[T ~string](s *cryptobyte.String, limit int, out *[]T) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var n string
		if len(*out) == limit || !readString8(&list, &n) {
			return false
		}
		*out = append(*out, T(n))
	}
	return true
}

func validKind(k string) bool { return len(k) <= maxKindBytes && validSegment(k) }

// validPreference says whether the list is 1 to limit valid values in order of
// preference, none twice.
func validPreference[T comparable](list []T, limit int, valid func(T) bool) bool {
	if len(list) == 0 || len(list) > limit {
		return false
	}
	for i, v := range list {
		if !valid(v) || slices.Contains(list[:i], v) {
			return false
		}
	}
	return true
}

// choose returns the first of mine that is also in theirs.
func choose[T comparable](mine, theirs []T) (T, bool) {
	for _, v := range mine {
		if slices.Contains(theirs, v) {
			return v, true
		}
	}
	var none T
	return none, false
}
