package vtpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// NV indices of Azure's confidential guests (Azure/azure-cvm-tooling, az-cvm-vtpm).
const (
	// AzureReport holds the CPU's report with the paravisor's data (the HCL report).
	AzureReport = 0x01400001
	// AzureReportData takes 64 bytes that the next reading of AzureReport covers.
	AzureReportData = 0x01400002
)

const (
	// MaxNVBytes bounds what is read from or written to an NV index.
	MaxNVBytes = 16 << 10

	nvPart = 512 // every TPM takes so much at once
)

// ReadNV reads an NV index of at most limit bytes, all of it, with the owner's empty
// authorization or the index's own. Where there is no such index, or no TPM, the error is an
// fs.ErrNotExist, too.
func (c *Collector) ReadNV(ctx context.Context, index uint32, limit int) ([]byte, error) {
	if limit <= 0 || limit > MaxNVBytes {
		return nil, refusal.New(ReasonDevice, "a limit of %d bytes, want 1 to %d", limit, MaxNVBytes)
	}
	return during(ctx, c, func(_ context.Context, tpm transport.TPM) ([]byte, error) { return readNV(tpm, index, limit) })
}

// WriteNV writes data to the beginning of an NV index, which is defined for the owner, with the
// data's size, if it does not exist yet.
func (c *Collector) WriteNV(ctx context.Context, index uint32, data []byte) error {
	if len(data) == 0 || len(data) > MaxNVBytes {
		return refusal.New(ReasonDevice, "%d bytes to write, want 1 to %d", len(data), MaxNVBytes)
	}
	_, err := during(ctx, c, func(_ context.Context, tpm transport.TPM) (struct{}, error) {
		return struct{}{}, writeNV(tpm, index, data)
	})
	return err
}

// nvIndex is what the TPM says of an index.
type nvIndex struct {
	public tpm2.TPMSNVPublic
	handle tpm2.NamedHandle
}

func openNV(tpm transport.TPM, index uint32) (n nvIndex, err error) {
	if index>>24 != rangeNV {
		return n, refusal.New(ReasonDevice, "%#x is no NV index", index)
	}
	response, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(tpm)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return n, fmt.Errorf("NV index %#x: %w: %w", index, fs.ErrNotExist, err)
	}
	if err != nil {
		return n, fmt.Errorf("NV index %#x: %w", index, err)
	}
	public, err := response.NVPublic.Contents()
	if err != nil {
		return n, fmt.Errorf("NV index %#x: %w", index, err)
	}
	return nvIndex{public: *public, handle: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: response.NVName}}, nil
}

// by is who may use the index: the owner if the owner may, else whoever holds the index's own
// authorization, which is empty.
func (n nvIndex) by(owner bool) tpm2.AuthHandle {
	if owner {
		return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	}
	return tpm2.AuthHandle{Handle: n.handle.Handle, Name: n.handle.Name, Auth: tpm2.PasswordAuth(nil)}
}

func readNV(tpm transport.TPM, index uint32, limit int) ([]byte, error) {
	n, err := openNV(tpm, index)
	if err != nil {
		return nil, err
	}
	size := int(n.public.DataSize)
	if size == 0 || size > limit {
		return nil, refusal.New(ReasonDevice, "NV index %#x has %d bytes, want 1 to %d", index, size, limit)
	}
	data := make([]byte, 0, size)
	for len(data) < size {
		part := min(size-len(data), nvPart)
		response, err := tpm2.NVRead{AuthHandle: n.by(n.public.Attributes.OwnerRead), NVIndex: n.handle, Size: uint16(part), Offset: uint16(len(data))}.Execute(tpm)
		if err != nil {
			return nil, fmt.Errorf("read NV index %#x: %w", index, err)
		}
		if len(response.Data.Buffer) != part {
			return nil, refusal.New(ReasonDevice, "NV index %#x: asked for %d bytes, got %d", index, part, len(response.Data.Buffer))
		}
		data = append(data, response.Data.Buffer...)
	}
	return data, nil
}

func writeNV(tpm transport.TPM, index uint32, data []byte) error {
	n, err := openNV(tpm, index)
	if errors.Is(err, fs.ErrNotExist) {
		if err := defineNV(tpm, index, len(data)); err != nil {
			return err
		}
		n, err = openNV(tpm, index)
	}
	if err != nil {
		return err
	}
	if len(data) > int(n.public.DataSize) {
		return refusal.New(ReasonDevice, "NV index %#x has %d bytes, %d do not fit", index, n.public.DataSize, len(data))
	}
	for at := 0; at < len(data); at += nvPart {
		part := data[at:min(len(data), at+nvPart)]
		_, err := tpm2.NVWrite{AuthHandle: n.by(n.public.Attributes.OwnerWrite), NVIndex: n.handle, Data: tpm2.TPM2BMaxNVBuffer{Buffer: part}, Offset: uint16(at)}.Execute(tpm)
		if err != nil {
			return fmt.Errorf("write NV index %#x: %w", index, err)
		}
	}
	return nil
}

func defineNV(tpm transport.TPM, index uint32, size int) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(size),
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NoDA: true},
		}),
	}.Execute(tpm)
	if err != nil {
		return fmt.Errorf("define NV index %#x: %w", index, err)
	}
	return nil
}
