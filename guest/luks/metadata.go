package luks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// only is the one key in each of the header's lists.
const only = "0"

// metadata is the JSON area (specification, section 3), with every field that is accepted.
type metadata struct {
	Keyslots map[string]keyslot         `json:"keyslots"`
	Tokens   map[string]json.RawMessage `json:"tokens"`
	Segments map[string]segment         `json:"segments"`
	Digests  map[string]digest          `json:"digests"`
	Config   config                     `json:"config"`
}

type keyslot struct {
	Type     string `json:"type"`
	KeySize  int    `json:"key_size"`
	AF       af     `json:"af"`
	Area     area   `json:"area"`
	KDF      kdf    `json:"kdf"`
	Priority *int   `json:"priority,omitempty"`
}

// af is the anti-forensic splitter: it spreads a key over so much room that it can be wiped.
type af struct {
	Type    string `json:"type"`
	Stripes int    `json:"stripes"`
	Hash    string `json:"hash"`
}

type area struct {
	Type       string  `json:"type"`
	Offset     decimal `json:"offset"`
	Size       decimal `json:"size"`
	Encryption string  `json:"encryption"`
	KeySize    int     `json:"key_size"`
}

// kdf has the fields of PBKDF2 and of Argon2; those of the other one are zero.
type kdf struct {
	Type       string `json:"type"`
	Hash       string `json:"hash,omitempty"`
	Iterations int64  `json:"iterations,omitempty"`
	Time       int64  `json:"time,omitempty"`
	Memory     int64  `json:"memory,omitempty"` // KiB
	CPUs       int64  `json:"cpus,omitempty"`
	Salt       []byte `json:"salt"`
}

type segment struct {
	Type       string     `json:"type"`
	Offset     decimal    `json:"offset"`
	Size       string     `json:"size"` // "dynamic": up to the device's end
	IVTweak    decimal    `json:"iv_tweak"`
	Encryption string     `json:"encryption"`
	SectorSize int64      `json:"sector_size"`
	Integrity  *integrity `json:"integrity,omitempty"`
	Flags      []string   `json:"flags,omitempty"`
}

type integrity struct {
	Type              string `json:"type"`
	JournalEncryption string `json:"journal_encryption"`
	JournalIntegrity  string `json:"journal_integrity"`
}

type digest struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations int64    `json:"iterations"`
	Salt       []byte   `json:"salt"`
	Digest     []byte   `json:"digest"`
}

type config struct {
	JSONSize     decimal         `json:"json_size"`
	KeyslotsSize decimal         `json:"keyslots_size"`
	Flags        []string        `json:"flags,omitempty"`
	Requirements json.RawMessage `json:"requirements,omitempty"`
}

// decimal is a number that LUKS2 writes as a string, because JSON's numbers lose digits.
type decimal int64

// UnmarshalJSON reads digits in quotation marks, in their one form.
func (d *decimal) UnmarshalJSON(raw []byte) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	n, err := parseDecimal(s)
	*d = decimal(n)
	return err
}

// MarshalJSON writes it as cryptsetup does.
func (d decimal) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(int64(d), 10) + `"`), nil
}

func parseDecimal(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("%q is no number of bytes", s)
	}
	return n, nil
}

// decodeMetadata decodes the JSON area, whose size readCopy has bounded. A name that occurs twice does no
// harm: what is validated is what was decoded, and Detached writes nothing else.
func decodeMetadata(raw []byte) (m metadata, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err = d.Decode(&m); err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	if err != nil {
		return metadata{}, refusal.New(ReasonFormat, "the header's JSON: %w", err)
	}
	return m, nil
}
