package jobs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// stored is the record of a job. Specification and result stand in it byte for byte,
// whatever their white space.
type stored struct {
	Info
	Spec   []byte `json:"spec"`
	Result []byte `json:"result,omitempty"`
}

// maxRecordBytes bounds a record: both texts in base64, and the rest.
const maxRecordBytes = (MaxSpecBytes+MaxResultBytes)/3*4 + 16<<10

// encode makes the record of a job. Progress and expiry are not durable.
func (i *Info) encode() ([]byte, error) {
	s := stored{Info: *i, Spec: i.Spec, Result: i.Result}
	s.Info.Spec, s.Info.Result, s.Info.Progress, s.Info.Expires = nil, nil, nil, time.Time{}
	return json.Marshal(&s)
}

// decode reads what encode wrote.
func decode(record []byte) (*Info, error) {
	if len(record) > maxRecordBytes {
		return nil, damaged(nil, "a record has %d bytes, more than %d", len(record), maxRecordBytes)
	}
	var s stored
	d := json.NewDecoder(bytes.NewReader(record))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, damaged(err, "a record is not one of this version")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, damaged(nil, "a record is followed by something")
	}
	info := s.Info
	info.Spec, info.Result = s.Spec, s.Result
	return &info, info.checkRecord()
}

// checkRecord holds what is true of every record that was ever written.
func (i *Info) checkRecord() error {
	if err := i.Job.check(); err != nil {
		return damaged(err, "a record's job is none")
	}
	switch {
	case i.Job.id() != i.ID:
		return damaged(nil, "a record's job has another name")
	case i.State != Queued && i.State != Leased && !i.Final(),
		i.Exit != "" && i.Exit != Ok && !i.Exit.failed(),
		i.Seq == 0, i.Tries < 0, i.Tries > MaxTries,
		i.State == Leased && (i.Tries == 0 || i.Lease == 0),
		(i.State == Done) != (i.Exit == Ok), (i.State == Done) != (i.Result != nil),
		i.State == Dead && i.Exit == "", i.Progress != nil, !i.Expires.IsZero(),
		len(i.Result) > MaxResultBytes || i.Result != nil && !json.Valid(i.Result):
		return damaged(nil, "a record contradicts itself")
	}
	return nil
}

func damaged(err error, format string, args ...any) error {
	r := refusal.New(ReasonDamaged, format, args...).(*refusal.Error)
	r.Err = err
	return r
}

// seal seals a record under the name that it stands under.
func (q *Queue) seal(info *Info) ([]byte, error) {
	plain, err := info.encode()
	if err != nil {
		return nil, err
	}
	return chunkseal.SealBlob(q.key, sealLabel, info.ID[:], plain)
}

// open opens a record that must be of the job under whose name it stands.
func (q *Queue) open(id, sealed []byte) (*Info, error) {
	plain, err := chunkseal.OpenBlob(q.key, sealLabel, id, sealed)
	if err != nil {
		return nil, damaged(err, "the record of job %x does not open", id)
	}
	info, err := decode(plain)
	if err == nil && !bytes.Equal(info.ID[:], id) {
		return nil, damaged(nil, "a record stands under another name")
	}
	return info, err
}
