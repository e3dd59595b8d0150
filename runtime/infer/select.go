package infer

import "slices"

// A list this short is sorted.
const short = 24

// first moves the n first of the order to the beginning of list, in any order.
func first(list []candidate, n int) {
	for len(list) > short {
		mid := partition(list)
		switch {
		case n <= mid:
			list = list[:mid]
		case n == mid+1:
			return
		default:
			list, n = list[mid+1:], n-mid-1
		}
	}
	slices.Sort(list)
}

// nucleus moves the shortest beginning of the order that reaches the weight to the beginning of
// list, in any order, and returns it.
func (s *sampler) nucleus(list []candidate, weight float64) []candidate {
	low, high := 0, len(list)
	for high-low > short {
		mid := low + partition(list[low:high])
		sum := s.mass(list[low:mid], 1)
		if sum >= weight {
			high = mid
			continue
		}
		if weight -= sum + float64(s.weights(list[mid:mid+1], 1)[0]); weight <= 0 {
			return list[:mid+1]
		}
		low = mid + 1
	}
	slices.Sort(list[low:high])
	for i, w := range s.weights(list[low:high], 1) {
		if weight -= float64(w); weight <= 0 {
			return list[:low+i+1]
		}
	}
	return list[:high]
}

// partition returns the place of one of list, with smaller ones before it and larger ones
// behind. Candidates differ; the pivot is the middle of three, so that order costs nothing.
func partition(list []candidate) int {
	end := len(list) - 1
	pivot := []candidate{list[0], list[end/2], list[end]}
	slices.Sort(pivot)
	at := slices.Index(list, pivot[1])
	list[at], list[end] = list[end], list[at]
	place := 0
	for i, k := range list[:end] {
		if k < pivot[1] {
			list[i], list[place] = list[place], k
			place++
		}
	}
	list[place], list[end] = list[end], list[place]
	return place
}
