package valuefile

import (
	"bytes"
	"math"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/fxamacker/cbor/v2"
)

// Limits of CBOR: no CoRIM comes near them.
const (
	maxDepth    = 16
	maxElements = 4096
	maxPairs    = 1024
)

// decoder reads CBOR strictly: no key twice, no indefinite length, no invalid text.
type decoder struct{ mode cbor.DecMode }

func newDecoder() (decoder, error) {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
		MaxNestedLevels: maxDepth, MaxArrayElements: maxElements, MaxMapPairs: maxPairs, BignumTag: cbor.BignumTagForbidden,
	}.DecMode()
	return decoder{mode}, err
}

// into decodes one whole item.
func (d decoder) into(what string, raw []byte, v any) error {
	if err := d.mode.Unmarshal(raw, v); err != nil {
		return refusal.New(ReasonMalformed, "%s: %w", what, err)
	}
	return nil
}

// object is a map with integers for keys.
type object map[int64]cbor.RawMessage

// object decodes a map of which every key is known.
func (d decoder) object(what string, raw []byte, known ...int64) (object, error) {
	var m object
	if err := d.into(what, raw, &m); err != nil {
		return nil, err
	}
	for key := range m {
		if !slices.Contains(known, key) {
			return nil, refusal.New(ReasonUnsupported, "%s: key %d is not known", what, key)
		}
	}
	return m, nil
}

// list decodes an array that is not empty.
func (d decoder) list(what string, raw []byte) (list []cbor.RawMessage, err error) {
	if err = d.into(what, raw, &list); err == nil && len(list) == 0 {
		err = refusal.New(ReasonMalformed, "%s: an empty list", what)
	}
	return list, err
}

// tagged decodes a tag of this number.
func (d decoder) tagged(what string, raw []byte, number uint64) (cbor.RawMessage, error) {
	var tag cbor.RawTag
	if err := d.into(what, raw, &tag); err != nil {
		return nil, err
	}
	if tag.Number != number {
		return nil, refusal.New(ReasonUnsupported, "%s: got tag %d, want %d", what, tag.Number, number)
	}
	return tag.Content, nil
}

// tagOf is an item's tag and content; 0 if it has none.
func (d decoder) tagOf(raw []byte) (number uint64, content []byte) {
	var tag cbor.RawTag
	if d.mode.Unmarshal(raw, &tag) != nil {
		return 0, raw
	}
	return tag.Number, tag.Content
}

// bytesOf is a byte string; nil if it is none.
func (d decoder) bytesOf(raw []byte) []byte {
	var b []byte
	const majorBytes = 2
	if len(raw) == 0 || raw[0]>>5 != majorBytes || d.mode.Unmarshal(raw, &b) != nil {
		return nil
	}
	return b
}

// Keys of validity-map.
const (
	keyNotBefore, keyNotAfter = 0, 1
	tagTime                   = 1
)

// checkPeriod refuses what is not valid now.
func (d decoder) checkPeriod(what string, raw []byte, now time.Time) error {
	m, err := d.object(what, raw, keyNotBefore, keyNotAfter)
	if err != nil {
		return err
	}
	if m[keyNotAfter] == nil {
		return refusal.New(ReasonMalformed, "%s: it has no end", what)
	}
	for key, raw := range m {
		content, err := d.tagged(what, raw, tagTime)
		if err != nil {
			return err
		}
		at, err := d.seconds(what, content)
		if err != nil {
			return err
		}
		if key == keyNotBefore && now.Before(at) || key == keyNotAfter && now.After(at) {
			return refusal.New(ReasonPeriod, "%s: now is %s, and its bound is %s", what, now.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// seconds since 1970, as a number of either kind.
func (d decoder) seconds(what string, raw []byte) (time.Time, error) {
	var whole int64
	if d.mode.Unmarshal(raw, &whole) == nil && whole > -maxSeconds && whole < maxSeconds {
		return time.Unix(whole, 0), nil
	}
	var real float64
	if err := d.into(what, raw, &real); err != nil {
		return time.Time{}, err
	}
	if math.IsNaN(real) || math.Abs(real) >= maxSeconds {
		return time.Time{}, refusal.New(ReasonMalformed, "%s: got %v seconds", what, real)
	}
	return time.Unix(int64(real), 0), nil
}

// maxSeconds is in the year 9999.
const maxSeconds = 253402300799

// isCoRIM recognises a signed or an unsigned CoRIM by its tag; those of old drafts, too, to name them.
func isCoRIM(raw []byte) bool {
	for _, prefix := range [][]byte{{0xd2}, {0xd9, 0x01, 0xf5}, {0xd9, 0x01, 0xf4}, {0xd9, 0x01, 0xf6}} {
		if bytes.HasPrefix(raw, prefix) {
			return true
		}
	}
	return false
}
