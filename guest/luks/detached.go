package luks

import (
	"encoding/json"
	"fmt"
)

// Detached returns the header as a file for cryptsetup's --header: both copies, made from what was
// validated, and the key slot. The data stays where it is on its device.
func (h *Header) Detached() ([]byte, error) {
	m := h.metadata
	m.Tokens = map[string]json.RawMessage{} // an empty list, which cryptsetup insists on
	area := m.Keyslots[only].Area
	// The area for key slots ends behind the one that there is: cryptsetup wants a file that holds all of it.
	m.Config.KeyslotsSize = area.Offset + area.Size - decimal(2*h.size)
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if int64(len(text)) >= h.size-binaryBytes {
		return nil, fmt.Errorf("the header's JSON has %d bytes, its area %d", len(text), h.size-binaryBytes)
	}
	file := make([]byte, area.Offset+area.Size)
	writeCopy(file[:h.size], primaryMagic, 0, h, text)
	writeCopy(file[h.size:2*h.size], secondaryMagic, h.size, h, text)
	copy(file[area.Offset:], h.slot)
	return file, nil
}
