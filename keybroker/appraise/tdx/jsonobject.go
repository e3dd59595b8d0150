package tdx

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Limits of a document of the PCS. Real ones have 1 to 30 KB.
const (
	maxDocumentBytes = 256 << 10
	maxMembers       = 64  // of one object
	maxElements      = 256 // of one list
	maxTextBytes     = 128 // of one text
)

// object is a JSON object whose members are still text, by their exact names: encoding/json
// would take "TCBInfo" for "tcbInfo", and the last of two for the only one. Members that nobody
// asks for are those that Intel added later.
//
// The first failure of any reading stays in err, and readings after it give zero values.
type object struct {
	members map[string]json.RawMessage
	name    string
	err     *error
}

// parseObject reads the one object of a text.
func parseObject(text []byte, name string, err *error) object {
	o := object{name: name, err: err}
	if *err != nil {
		return o
	}
	if o.members, *err = readMembers(text); *err != nil {
		*err = fmt.Errorf("%s: %w", name, *err)
	}
	return o
}

func readMembers(text []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(errors.New("not an object"), err)
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // the decoder takes nothing else there
		if _, twice := members[name]; twice || len(members) == maxMembers {
			return nil, fmt.Errorf("member %.40q comes twice, or is one of more than %d", name, maxMembers)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		members[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return members, nil
}

func (o object) fail(member, what string) {
	if *o.err == nil {
		*o.err = fmt.Errorf("%s: %s %s", o.name, member, what)
	}
}

func (o object) has(member string) bool { return o.members[member] != nil }

// raw is a member's text, which must be there.
func (o object) raw(member string) json.RawMessage {
	if !o.has(member) {
		o.fail(member, "is missing")
	}
	return o.members[member]
}

func (o object) object(member string) object {
	return parseObject(o.raw(member), o.name+"."+member, o.err)
}

// list are the objects of a member, which must have at least so many.
func (o object) list(member string, least int) (list []object) {
	for i, text := range o.elements(member, least) {
		list = append(list, parseObject(text, fmt.Sprintf("%s.%s[%d]", o.name, member, i), o.err))
	}
	return list
}

func (o object) elements(member string, least int) (list []json.RawMessage) {
	text := o.raw(member)
	if *o.err != nil {
		return nil
	}
	if len(text) == 0 || text[0] != '[' || json.Unmarshal(text, &list) != nil || len(list) < least || len(list) > maxElements {
		o.fail(member, fmt.Sprintf("is not a list of %d to %d elements", least, maxElements))
		return nil
	}
	return list
}

func (o object) text(member string) string { return o.textOf(member, o.raw(member)) }

func (o object) textOf(member string, text json.RawMessage) (s string) {
	if *o.err == nil && (len(text) == 0 || text[0] != '"' || len(text) > maxTextBytes+2 || json.Unmarshal(text, &s) != nil) {
		o.fail(member, fmt.Sprintf("is not a text of at most %d bytes", maxTextBytes))
		return ""
	}
	return s
}

// texts are a list of texts; none if the member is missing.
func (o object) texts(member string) (list []string) {
	if !o.has(member) {
		return nil
	}
	for _, text := range o.elements(member, 0) {
		list = append(list, o.textOf(member, text))
	}
	return list
}

// number is a whole number from 0 to most.
func (o object) number(member string, most uint64) (n uint64) {
	text := o.raw(member)
	if *o.err == nil && (len(text) == 0 || text[0] == 'n' || json.Unmarshal(text, &n) != nil || n > most) {
		o.fail(member, fmt.Sprintf("is not a number from 0 to %d", most))
		return 0
	}
	return n
}

// hex is text of exactly so many bytes in hexadecimal, of either case.
func (o object) hex(member string, size int) []byte {
	b := make([]byte, size)
	text := o.text(member)
	if *o.err != nil {
		return b
	}
	if len(text) != 2*size {
		o.fail(member, fmt.Sprintf("is not %d bytes in hexadecimal", size))
		return b
	}
	if _, err := hex.Decode(b, []byte(text)); err != nil {
		o.fail(member, "is not hexadecimal")
	}
	return b
}

// time is a time as RFC 3339 writes it.
func (o object) time(member string) time.Time {
	text := o.text(member)
	if *o.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		o.fail(member, "is not a time")
	}
	return t.UTC()
}
