package classifier

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/arena"
)

// The sections of a sealed classifier, in this order. Both have chunkseal.KindClassifier.
const (
	DescriptionSection = "[classifier]"
	ParametersSection  = "[parameters]"

	typeDescription = 1
	typeParameters  = 2
	chunkBytes      = 192 << 10
)

// Part is a section to seal, and its plaintext.
type Part struct {
	chunkseal.Section
	Data []byte
}

// Parts returns the sections of a sealed classifier. The Data of the second one is secret; the
// caller wipes it.
func Parts(d *Description, p intnet.Parameters) ([]Part, error) {
	n := &intnet.Network{Architecture: d.Architecture, Parameters: p}
	if err := n.Check(); err != nil {
		return nil, err
	}
	description, err := d.MarshalBinary()
	if err != nil {
		return nil, err
	}
	parameters := appendParameters(make([]byte, 0, parametersBytes(d.Architecture)), n)
	return []Part{
		{section(DescriptionSection, typeDescription, len(description)), description},
		{section(ParametersSection, typeParameters, len(parameters)), parameters},
	}, nil
}

func section(name string, typ uint8, size int) chunkseal.Section {
	chunks := (size + chunkBytes - 1) / chunkBytes
	return chunkseal.Section{Name: name, Kind: chunkseal.KindClassifier, Type: typ, Rows: 1, Cols: uint32(size),
		Chunks: uint32(chunks), ChunkBytes: uint32(min(size, chunkBytes)), LastBytes: uint32(size - (chunks-1)*chunkBytes)}
}

// load decrypts a sealed classifier: the description, then the parameters into their place.
func (m *Model) load(r *chunkseal.Reader) error {
	list := r.Sections()
	if list[0].Kind != chunkseal.KindClassifier {
		return errors.New("the file holds a language model, not a classifier")
	}
	if len(list) != 2 || list[0].Bytes() > MaxDescriptionBytes || list[1].Bytes() > math.MaxInt32 ||
		list[0] != section(DescriptionSection, typeDescription, int(list[0].Bytes())) ||
		list[1] != section(ParametersSection, typeParameters, int(list[1].Bytes())) {
		return errors.New("the sections do not match a classifier's")
	}
	if err := m.loadDescription(r, int(list[0].Bytes())); err != nil {
		return err
	}
	if want := parametersBytes(m.description.Architecture); list[1].Bytes() != int64(want) {
		return fmt.Errorf("got parameters of %d bytes, the architecture has %d", list[1].Bytes(), want)
	}
	if err := m.reserve(); err != nil {
		return err
	}
	if err := openChunks(r, 1, m.region.Bytes()); err != nil {
		return err
	}
	return m.prepare()
}

// loadDescription decrypts the description into the arena for as long as it is parsed.
func (m *Model) loadDescription(r *chunkseal.Reader, size int) (err error) {
	var staging *arena.Region
	if staging, err = m.budget.Map("classifier description", int64(size)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, staging.Release()) }()
	b := staging.Bytes()
	if err := openChunks(r, 0, b); err != nil {
		return err
	}
	if err := m.description.UnmarshalBinary(b); err != nil {
		return err
	}
	again, err := m.description.MarshalBinary()
	if err == nil && !bytes.Equal(again, b) {
		err = errDescription // a decoder that accepts two forms of one description is wrong
	}
	return err
}

// openChunks decrypts a section into dst, which has its size.
func openChunks(r *chunkseal.Reader, section int, dst []byte) error {
	for i := range int(r.Sections()[section].Chunks) {
		n := r.ChunkSize(r.First(section) + i)
		if _, err := r.OpenChunk(dst[:n:n], r.First(section)+i); err != nil {
			return err
		}
		dst = dst[n:]
	}
	return nil
}
